"""Products that somebody else's bench measured: npz, HDF5, csv and tsv files, read without running anything in them.

A file holds ``inputs`` (rows × inputs), ``weights`` (outputs × inputs) and ``readings`` (rows × outputs, or one
reading a row together with ``output``), and may hold ``output``, ``time`` [s] and ``group``.
"""

from labctl.foreign.files.capture import Capture, open_capture
from labctl.foreign.files.request import Request, parse_map

__all__ = ["Capture", "Request", "open_capture", "parse_map"]
