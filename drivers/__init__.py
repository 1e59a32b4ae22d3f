"""Instruments behind small blocking protocols, found by name in the entry-point group ``labctl.drivers``."""
