"""Doors to other data systems: runs and calibrations in formats of theirs, and a bench as devices of theirs."""
