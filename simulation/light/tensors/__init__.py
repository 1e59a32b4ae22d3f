"""Products in light in operations of torch, on whatever device their operands are: CUDA, MPS, or the CPU."""
