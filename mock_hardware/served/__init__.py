"""The mock bench behind real protocols: a program on the other side meets instruments, not Python objects.

`served.bench` is the bench in real time, and `served.server` all of it together. `served.gige_camera` is a GigE Vision
camera on `served.gvcp`, `served.gvsp` and `served.genicam`; `served.panels` reads monitors back from the screen;
`served.scpi_meter` and `served.serial_laser` are a power meter on TCP and a laser on a serial line.
"""
