"""Cameras: one file for each library that reads some."""
