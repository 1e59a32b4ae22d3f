"""A bench in use: its roles, shared resources, lock, acquirer, and the way to its safe state."""
