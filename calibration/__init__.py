"""The machine model: how numbers become light and counts become numbers."""
