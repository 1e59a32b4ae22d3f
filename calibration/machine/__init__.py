"""The machine: channel, look-up tables, layout, encoding and noise, and the artefact that holds them."""
