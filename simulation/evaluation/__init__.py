"""What a model does with a text: its perplexity, and the matrix–vector products that it computes on the way."""
