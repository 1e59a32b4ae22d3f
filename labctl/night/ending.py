"""What is done when a night is over, whatever its verdict: metrics handed over, people told, old raw data removed.

``python -m labctl.night.ending EXIT_CODE RUN RUNS STATION SUMMARY [KEY=VALUE…]``: the supervisor starts it so, in a
fresh process and for a limited time, as the worker may have been killed. ``RUN`` is the folder of the run, and
``SUMMARY`` the document of a night that has none; both may be empty. Nothing here changes how the night ended.
"""

from __future__ import annotations

import datetime as dt
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundwork.errors import CodedError
from labctl.archive import RunReader, find_run
from labctl.archive.atomic import append_line, atomic_write_bytes, storage
from labctl.archive.ids import timestamp
from labctl.archive.retention import collect
from labctl.clock import utc_now
from labctl.console import Console
from labctl.engine import supervisor
from labctl.errors import LabError, NotNotified, NotWritable, as_coded
from labctl.lab import Lab
from labctl.night.notify import notify, ping
from labctl.station.loading import LoadedStation, load_station
from labctl.station.model import Station
from labctl.summary import Summary, failure
from labctl.verdicts import COMPLETE, Verdict, exit_codes, verdict_of

LOG = "night.jsonl"
"""In the archive: a line for each step of an ending that failed."""
METRICS = "metrics.prom"
STEP_S = 10.0


@dataclass(frozen=True)
class Ended:
    """A night that is over.

    Attributes
    ----------
    runs
        The archive.
    station
        Of its bench.
    summary
        How it ended.
    """

    runs: Path
    station: Station
    summary: Summary


def hand_over_metrics(night: Ended) -> None:
    """Copy the metrics of the run to where a collector looks; a night without a run leaves the last ones there."""
    target, run_id = night.station.nightly.metrics_folder, night.summary.run_id
    if not target or run_id is None:
        return
    written = find_run(night.runs, run_id) / METRICS
    if not written.is_file():
        return
    folder = Path(target).expanduser()
    if not folder.is_dir():  # perhaps not mounted: made here, nobody would look into it
        raise NotWritable(
            "the folder for metrics does not exist",
            device=str(folder),
            action="handing the metrics over",
            expected="the folder that the collector looks into (nightly.metrics_folder)",
            safe="the run has them, too",
            hint=f"mkdir -p {folder}",
        )
    path = folder / f"labctl-{night.station.bench.name}.prom"
    with storage(path, "handing the metrics over"):
        atomic_write_bytes(path, written.read_bytes())
        path.chmod(0o644)  # the collector is another user


def remove_raw_data(night: Ended) -> None:
    """Retention, where the station asks for it; the last night alone never decides what goes."""
    nightly = night.station.nightly
    if nightly.remove_raw_data:
        collect(night.runs, nightly.keep_nights, utc_now(), delete=True)


def tell(night: Ended) -> None:
    """A message where something has changed."""
    notify(night.runs, night.station.nightly, night.summary)


def tell_the_switch(night: Ended) -> None:
    """A dead man's switch hears of every night that had the bench; it is to fire where somebody has to be woken."""
    if night.summary.verdict is not Verdict.BUSY:
        went_well = night.summary.verdict in COMPLETE | {Verdict.PARTIAL, Verdict.ABORTED}
        ping(night.station.nightly, "" if went_well else "/fail")


STEPS: Mapping[str, Callable[[Ended], None]] = {
    "metrics": hand_over_metrics,
    "message": tell,
    "dead man's switch": tell_the_switch,
    "retention": remove_raw_data,
}
"""In this order; one that fails, or takes longer than it may, does not keep the others from being done."""


def end_of_night(
    night: Ended, warn: Callable[[str], None], steps: Mapping[str, Callable[[Ended], None]] = STEPS
) -> None:
    """Do every step; each has its time, and what fails is a warning and a line in the archive."""
    for name, step in steps.items():
        words = _tried(step, night)
        if words:
            warn(f"warning: after the night, {name}: {words}")
            _log(night, name, words)


def _tried(step: Callable[[Ended], None], night: Ended) -> str:
    """Why a step failed; empty where it did not."""
    failed: list[str] = [f"took longer than {STEP_S:g} s"]

    def attempt() -> None:
        try:
            step(night)
        except Exception as error:
            failed[0] = (
                f"{error.code}  {error}" if isinstance(error, CodedError) else f"{type(error).__name__}: {error}"
            )
        else:
            failed.clear()

    thread = threading.Thread(target=attempt, daemon=True, name="ending")
    thread.start()
    thread.join(STEP_S)
    return failed[0] if failed else ""


def _log(night: Ended, name: str, words: str) -> None:
    record = {"at": timestamp(), "bench": night.station.bench.name, "run": night.summary.run_id}
    try:
        night.runs.mkdir(parents=True, exist_ok=True)
        append_line(night.runs / LOG, {**record, "step": name, "failed": words})
    except (OSError, LabError):
        return  # a full disk, say: the warning has been given


@contextmanager
def ending_follows(lab: Lab, loaded: LoadedStation, runs: Path, overrides: Sequence[str]) -> Iterator[None]:
    """However the block ends, the night has its ending: by the supervisor, where there is one, and else here."""
    supervisor.afterwards(__name__, *_arguments(loaded, runs, None, overrides))
    try:
        yield
    except BaseException as error:
        if lab.run is None:  # busy, or refused: no run tells of it
            lab.summary = _without_run(error, loaded, runs)
            supervisor.afterwards(__name__, *_arguments(loaded, runs, lab.summary, overrides))
        raise
    finally:
        if not supervisor.is_worker() and lab.summary is not None:
            end_of_night(Ended(runs, loaded.station, lab.summary), lab.console.warn)


def tell_the_switch_of_the_start(station: Station) -> None:
    """For a night that has the bench; it does not wait for an answer. Where nobody answers, its end says so."""

    def attempt() -> None:
        with suppress(NotNotified):
            ping(station.nightly, "/start")

    threading.Thread(target=attempt, daemon=True, name="ping").start()


def _arguments(loaded: LoadedStation, runs: Path, summary: Summary | None, overrides: Sequence[str]) -> list[str]:
    given = "" if summary is None else summary.model_dump_json(by_alias=True)
    return [str(runs.absolute()), str(loaded.path.absolute()), given, *overrides]


def _without_run(error: BaseException, loaded: LoadedStation, runs: Path) -> Summary:
    coded = as_coded(error, runs)
    code = coded.exit_code if isinstance(coded, CodedError) else 1
    return failure(coded, code, Summary(bench=loaded.bench, verdict=Verdict.CRASHED))


def summary_of(code: int, run: Path | None, given: str, station: Station) -> Summary:
    """How a night ended: by its run, by what the worker said before it ended, or by the exit code alone."""
    if run is not None:
        reader = RunReader(run)
        return reader.summary() or _unsealed(reader.info, station)
    if given:
        return Summary.model_validate_json(given)
    verdict = verdict_of(code)
    known: dict[str, Any] = {"exit_code": code} if code in exit_codes(verdict) else {}
    return Summary(bench=station.bench.name, mode=station.bench.mode, verdict=verdict, **known)


def _unsealed(info: Mapping[str, Any], station: Station) -> Summary:
    """Of a run that nobody could seal."""
    return Summary(
        run_id=str(info["run_id"]),
        bench=station.bench.name,
        mode=station.bench.mode,
        verdict=Verdict.CRASHED,
        started=dt.datetime.fromisoformat(str(info["started"])),
    )


def main(argv: Sequence[str]) -> int:
    """The program; always 0, as how the night ended has been told already."""
    code, run, runs, station, given, *overrides = argv
    console = Console()
    try:
        loaded = load_station(Path(station), overrides)
        summary = summary_of(int(code), Path(run) if run else None, given, loaded.station)
        end_of_night(Ended(Path(runs), loaded.station, summary), console.warn)
    except Exception as error:
        console.warn(f"warning: after the night: {type(error).__name__}: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
