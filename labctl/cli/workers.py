"""Where points are computed, as commands ask for it: here, on processes, or on a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from labctl.cli.handler import AT_ONCE_MAX
from labctl.errors import UsageError

if TYPE_CHECKING:
    from labctl.studies.sweep import Compute


@dataclass(frozen=True)
class WorkerOptions:
    """Where the points are computed."""

    jobs: Annotated[int, typer.Option("--jobs", min=1, max=AT_ONCE_MAX, help="Processes of one thread each.")] = 1
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", metavar="tcp://HOST:PORT", help="Use the workers of a Dask scheduler.")
    ] = None

    def compute(self) -> Compute:
        """What computes the points."""
        from labctl.studies.sweep import in_this_process, on_cluster, on_processes

        if self.scheduler is not None and self.jobs != 1:
            raise UsageError(
                "--jobs and --scheduler exclude each other",
                expected="processes of this computer, or the workers of a cluster",
                hint=f"--scheduler {self.scheduler} alone: it uses all of its workers",
            )
        if self.scheduler is not None:
            return on_cluster(self.scheduler)
        return in_this_process if self.jobs == 1 else on_processes(self.jobs)
