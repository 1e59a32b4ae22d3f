"""The Transformer running on the machine model: torch modules, scaling laws, energy."""
