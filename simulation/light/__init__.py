"""What light adds to a matrix product: devices, folded passes, noise, and the photons that it took."""
