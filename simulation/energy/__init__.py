"""What a Transformer costs in joules: operations traced from the model × a table of component constants."""
