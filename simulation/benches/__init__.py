"""Benches of every kind, behind one interface: how signs become light, and what a machine is that we do not drive."""
