"""Slow scalars: power meters, thermometers, and what else answers a question with a number."""
