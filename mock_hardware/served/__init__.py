"""The mock bench behind real protocols: a program on the other side meets instruments, not Python objects."""
