"""Work that needs no bench: sample, train, simulate, scale, cost."""
