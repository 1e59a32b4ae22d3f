"""What is found out of the bench before numbers are shown: dark signal, timing, registration, regions."""
