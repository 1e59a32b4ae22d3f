"""Somebody else's data: how readings answer inputs × weights on a bench that we do not drive."""
