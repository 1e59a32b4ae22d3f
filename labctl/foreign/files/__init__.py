"""Products that somebody else's bench measured: npz, HDF5, csv and more, read without running anything in them.

A file holds ``inputs`` (rows × inputs), ``weights`` (outputs × inputs) and ``readings`` (rows × outputs, or one
reading a row together with ``output``), and may hold ``output``, ``time`` [s] and ``group``.
"""

from labctl.foreign.files.capture import Capture, open_capture
from labctl.foreign.files.request import Elsewhere, Request, parse_map, requested

__all__ = ["Capture", "Elsewhere", "Request", "open_capture", "parse_map", "requested"]
