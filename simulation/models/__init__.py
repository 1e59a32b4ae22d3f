"""The Transformer itself: a GPT-2-like model, its checkpoints, other people's models, and the text that they read."""
