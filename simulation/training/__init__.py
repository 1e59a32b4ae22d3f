"""Train the models: plainly, on quantised operands, or with a bench in the loop."""
