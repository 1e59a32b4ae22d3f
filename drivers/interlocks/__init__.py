"""What may forbid light."""
