"""Run folders: written so that a kill costs at most the open segment, read so that one flipped byte is found."""

from typing import TYPE_CHECKING

from groundwork.lazy import lazy_front

if TYPE_CHECKING:
    from labctl.archive.atomic import atomic_path, atomic_write_bytes, atomic_write_json, atomic_write_text
    from labctl.archive.ids import new_run_id
    from labctl.archive.index import RunRow, find_run, list_runs, newest_run, open_run
    from labctl.archive.reader import RunReader
    from labctl.archive.run import RunWriter
    from labctl.archive.seal import Problem, Seal, Verification, read_seal, verify_run
    from labctl.archive.segments import Segment, SegmentRow, SegmentWriter
else:
    __getattr__, __dir__ = lazy_front(
        __name__,
        {
            "Problem": "labctl.archive.seal",
            "RunReader": "labctl.archive.reader",
            "RunRow": "labctl.archive.index",
            "RunWriter": "labctl.archive.run",
            "Seal": "labctl.archive.seal",
            "Segment": "labctl.archive.segments",
            "SegmentRow": "labctl.archive.segments",
            "SegmentWriter": "labctl.archive.segments",
            "Verification": "labctl.archive.seal",
            "atomic_path": "labctl.archive.atomic",
            "atomic_write_bytes": "labctl.archive.atomic",
            "atomic_write_json": "labctl.archive.atomic",
            "atomic_write_text": "labctl.archive.atomic",
            "find_run": "labctl.archive.index",
            "list_runs": "labctl.archive.index",
            "new_run_id": "labctl.archive.ids",
            "newest_run": "labctl.archive.index",
            "open_run": "labctl.archive.index",
            "read_seal": "labctl.archive.seal",
            "verify_run": "labctl.archive.seal",
        },
    )

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
