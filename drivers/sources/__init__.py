"""Light that can be switched: lasers, LEDs, shutters, and the lamp that cannot."""
