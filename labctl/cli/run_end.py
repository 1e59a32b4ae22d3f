"""What ``labctl run show`` says last of a run that is not whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labctl.cli.handler import can_go_on

if TYPE_CHECKING:
    from labctl.archive import RunReader
    from labctl.summary import Summary


def end_of_run(reader: RunReader, summary: Summary | None) -> list[str]:
    """What ended a run that is not whole, how that has left the bench, and how it goes on."""
    from labctl.archive.recovery import death_of

    error = summary.first_error if summary else None
    if error is None and reader.status == "crashed":
        error = death_of(reader)
    lines = [f"  error     {error.code}  {error.message}"] if error else []
    lines += [f"  state     {error.safe}"] if error and error.safe else []
    if reader.status != "running" and can_go_on(reader.path):
        lines.append(f"  go on: labctl run resume {reader.run_id.rpartition('-')[2]}")
    return lines
