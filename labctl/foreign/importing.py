"""Take somebody's measurement into the archive: a sealed run, from which everything else starts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labctl.archive import RunWriter
from labctl.archive.reader import IMPORT
from labctl.clock import utc_now
from labctl.engine.sealing import sealed_on_error
from labctl.errors import CaptureIncomplete, UsageError
from labctl.foreign.documents import BadRow, Imported, MissingReadings, RowsRead, Source
from labctl.foreign.files import Capture, Request, open_capture
from labctl.foreign.files.archived import archive, unusable_as_json
from labctl.lab import Lab
from labctl.station import toml_text
from labctl.summary import Counts, Metric, Node, Summary
from labctl.verdicts import Verdict

NAME_MAX = 200
"""It becomes a part of names of files, which have at most 255 characters."""

_BENCH_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class ImportConfiguration:
    """What an import run was made with, in place of a station file."""

    bench: str
    values: Mapping[str, Any]
    mode: str = "replay"
    origins: Mapping[str, str] = field(default_factory=dict)

    def to_toml(self) -> str:
        """``[bench]`` as in a station file, and ``[import]``: what was said about the file."""
        return toml_text.dumps({"bench": {"name": self.bench, "mode": self.mode}, "import": self.values})


def import_file(lab: Lab, runs: Path, path: Path, request: Request, name: str | None) -> Imported:
    """Read a file, check every value, and seal it as a run.

    Parameters
    ----------
    runs
        The archive.
    path, request
        The file, and what was said about it.
    name
        Of the bench that measured it; the file's name if None.

    Raises
    ------
    LabError
        `labctl.foreign.files.open_capture`; nothing is written then.
    """
    bench = bench_name(path, name)
    with open_capture(path, request) as capture:
        if capture.readings is None:
            raise CaptureIncomplete(
                "the file has no readings, so there is nothing to fit",
                device=str(path),
                expected="readings (rows, outputs)",
                seen=", ".join(capture.names.values()),
                hint="labctl predict CALIB FILE works without readings   ·   another name: --map readings=NAME",
            )
        return _archive(lab, runs, capture.check(), request, bench)


def _archive(lab: Lab, runs: Path, capture: Capture, request: Request, bench: str) -> Imported:
    said = {"file": capture.path.name, "unit": capture.unit, "rows": request.rows, "names": request.said}
    said |= {"files": {name: place.path.name for name, place in request.files.items()}} if request.files else {}
    source = Source(name=capture.path.name, format=capture.format, sha256=capture.sha256, bytes=capture.bytes)
    rows = RowsRead(start=capture.start, stop=capture.stop, in_file=capture.file_rows)
    outputs, inputs = capture.weights.shape
    left_out = len(capture.unusable)
    missing = None if capture.missing is None else MissingReadings.of(capture.missing)
    info = {"source": source.model_dump(), "rows": rows.model_dump(), "unit": capture.unit}
    info |= {"unusable": unusable_as_json(capture.unusable)} if left_out else {}
    info |= {"missing": missing.model_dump()} if missing else {}
    started = utc_now()
    with RunWriter.create(runs, IMPORT, ImportConfiguration(bench, said), info) as run:
        lab.run = run
        summary = Summary(run_id=run.run_id, bench=bench, mode="replay", verdict=Verdict.CRASHED, started=started)
        with sealed_on_error(lab, run, lambda: summary):
            with lab.console.progress("importing rows", capture.rows) as bar:
                span = archive(capture, run, bar)
            finished = utc_now()
            figures = {"rows": capture.rows, "inputs": inputs, "outputs": outputs}
            node = Node(
                name=IMPORT,
                state="done",
                duration_s=(finished - started).total_seconds(),
                metrics=[Metric(name=name, value=float(value)) for name, value in figures.items()],
            )
            counts = Counts(planned=capture.rows, recorded=capture.rows - left_out, discarded=left_out)
            summary = summary.concluded(
                Verdict.OK, finished=finished, nodes=[node], metrics=node.metrics, counts=counts
            )
            lab.summary = summary
            run.finish(Verdict.OK, summary)
        return Imported(
            run_id=run.run_id,
            path=str(run.path),
            bench=bench,
            source=source,
            rows=rows,
            inputs=inputs,
            outputs=outputs,
            unit=capture.unit,
            time_span_s=span,
            bad_rows=_bad_rows(capture),
            missing=missing,
            names=dict(capture.names),
            notes=list(capture.notes),
        )


def _bad_rows(capture: Capture) -> list[BadRow]:
    """Rows that a fit cannot use, and those without any reading, in the order of the file."""
    found = [BadRow.unusable(row, reason) for row, reason in capture.unusable.items()]
    unread = [] if capture.missing is None else capture.missing.unread.tolist()
    return sorted([*found, *(BadRow.unusable(row, "missing: no reading") for row in unread)], key=lambda row: row.index)


def bench_name(path: Path, name: str | None) -> str:
    """What a bench is called: as was said, or by its file.

    Raises
    ------
    UsageError
        When it cannot be a name.
    """
    found = name or re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).lstrip("._-") or "imported"
    if len(found) > NAME_MAX:
        raise UsageError(
            "the bench's name is too long", expected=f"at most {NAME_MAX} characters", seen=f"{len(found)}",
            hint="--name lab-b",
        )  # fmt: skip
    if not _BENCH_NAME.fullmatch(found):
        raise UsageError(
            "a bench's name is letters, digits, '.', '_' and '-'", expected="for example lab-b", seen=found,
            hint="--name lab-b",
        )  # fmt: skip
    return found
