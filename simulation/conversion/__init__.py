"""Put other arithmetic into a model: light, or 8 bits, in place of its linear layers and attention products."""
