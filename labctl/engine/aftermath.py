"""What the supervisor starts when a worker has stalled or died: make the bench safe, and seal the run as a fault.

``python -m labctl.engine.aftermath safe RUN`` and ``… seal RUN REASON [--json] [--safe]``, each in a fresh process.
"""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Sequence
from pathlib import Path

from groundwork.errors import CodedError
from labctl.archive import RunReader, RunWriter
from labctl.bench.bench import make_safe
from labctl.console import Console
from labctl.engine.supervisor import THREADS
from labctl.errors import LabError, Stalled, as_coded, render
from labctl.summary import Counts, Node, Summary, failure
from labctl.verdicts import Verdict, verdict_of


def seal(folder: Path, reason: str, *, safe: bool) -> tuple[Summary, LabError]:
    """Seal an unfinished run as a fault, with the nodes that its journal lists."""
    reader = RunReader(folder)
    events = [line for line in reader.journal() if line["event"] == "node"]
    nodes = [Node(**{k: v for k, v in line.items() if k in Node.model_fields}) for line in events]
    threads = folder / THREADS
    error = Stalled(
        reason,
        device=str(reader.info["bench"]),
        action=f"after {nodes[-1].name}" if nodes else "before the first node",
        seen=f"{len(reader.manifest)} segments sealed",
        safe="devices opened again and made safe" if safe else "unknown: check the bench in person, the light first",
        hint=f"what each thread did: {threads}" if threads.exists() else "labctl devices list",
    )
    reached = Summary(
        run_id=reader.run_id,
        bench=reader.info["bench"],
        mode=reader.info["mode"],
        verdict=Verdict.CRASHED,
        started=dt.datetime.fromisoformat(reader.info["started"]),
        nodes=nodes,
        counts=Counts(**reader.info["counts"]),
    )
    summary = failure(error, error.exit_code, reached)
    with RunWriter.resume(folder) as run:
        run.journal("stalled", reason=reason, safe=safe)
        run.finish(verdict_of(error.exit_code), summary, error.exit_code)
    return summary, error


def main(argv: Sequence[str]) -> int:
    """One of the two programs; errors are shown, and never more than that."""
    what, folder, *rest = argv
    if what == "safe":
        return 1 if make_safe(RunReader(Path(folder)).station().station) else 0
    console = Console(json_mode="--json" in rest)
    try:
        summary, error = seal(Path(folder), rest[0], safe="--safe" in rest)
    except Exception as failed:
        coded = as_coded(failed, Path(folder))
        console.warn(render(coded) if isinstance(coded, CodedError) else f"the run could not be sealed: {failed}")
        stalled = Stalled(rest[0])
        console.warn(render(stalled))
        if console.json_mode:
            console.result(failure(stalled, stalled.exit_code))
        return 1
    console.warn(render(error, summary.run_id))
    if console.json_mode:
        console.result(summary)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
