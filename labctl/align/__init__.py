"""First light: what a person at the bench must know before anything is calibrated, measured and said in words."""
