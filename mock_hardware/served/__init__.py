"""The mock bench behind real protocols: a program on the other side meets instruments, not Python objects.

`served.bench` is the bench in real time, `served.gvcp`, `served.gvsp` and `served.genicam` are a GigE Vision camera.
"""
