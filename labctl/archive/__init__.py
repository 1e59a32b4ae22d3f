"""Run folders: written so that a kill costs at most the open segment, read so that one flipped byte is found."""

from labctl.archive.atomic import atomic_path, atomic_write_bytes, atomic_write_json, atomic_write_text
from labctl.archive.ids import new_run_id
from labctl.archive.index import RunRow, find_run, list_runs, newest_run, open_run
from labctl.archive.reader import RunReader
from labctl.archive.run import RunWriter
from labctl.archive.seal import Problem, Seal, Verification, read_seal, verify_run
from labctl.archive.segments import Segment, SegmentRow, SegmentWriter

__all__ = [
    "Problem",
    "RunReader",
    "RunRow",
    "RunWriter",
    "Seal",
    "Segment",
    "SegmentRow",
    "SegmentWriter",
    "Verification",
    "atomic_path",
    "atomic_write_bytes",
    "atomic_write_json",
    "atomic_write_text",
    "find_run",
    "list_runs",
    "new_run_id",
    "newest_run",
    "open_run",
    "read_seal",
    "verify_run",
]
