"""The one place in which a file that somebody hands over is opened: a module for each format.

Whatever the format, the same holds:

- Only a regular file is opened. A pipe, a device, a socket or a folder is refused at once, also when it takes the place
  of a file between looking and opening.
- What a file *declares* is compared with what it *holds*, and with a limit, before anything is allocated.
- Nothing that the file says leads out of the file, and nothing in it is executed.
- Whatever is wrong ends as `groundwork.errors.FileRefused`, which readers turn into an error of their own.

`regular` has bytes and texts, `json_text` and `toml_text` trees of values, `tensors` safetensors, `hdf5` HDF5, `zipped`
``.npy`` arrays and archives of them, `gguf` the header of a GGUF model.
"""
