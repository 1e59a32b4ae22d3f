"""The calibration graph: one file for each node, and one registry."""
