"""What is done when a night is over, whatever its verdict: metrics handed over, people told, old raw data removed.

``python -m labctl.night.ending EXIT_CODE RUN NIGHT``: the supervisor starts it so, in a fresh process and for a limited
time, as the worker may have been killed. ``RUN`` is the folder of the run, empty for none, and ``NIGHT`` an
`labctl.night.owed.Owed`; for a night that found its bench in use it is the archive, and station, summary and what was
set follow. Where the supervisor itself was killed, the next command that has the bench makes up for it. It can tell by
a lock, which the supervisor and the process that it starts hold while they live (`labctl.night.owed.claim`). Nothing
here changes how the night ended.
"""

from __future__ import annotations

import datetime as dt
import secrets
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from groundwork.errors import CodedError
from groundwork.opening.regular import read_regular
from labctl.archive import RunReader, find_run
from labctl.archive.atomic import append_line, atomic_write_bytes, storage
from labctl.archive.ids import timestamp
from labctl.archive.recovery import recover, settle_crashed
from labctl.archive.retention import collect
from labctl.clock import utc_now
from labctl.console import Console
from labctl.engine import supervisor
from labctl.errors import LabError, NotNotified, NotWritable, Stalled, as_coded
from labctl.lab import Lab
from labctl.locks import KernelLock
from labctl.night import owed
from labctl.night.notify import notify, ping
from labctl.night.owed import NightBench, Owed
from labctl.osal import is_attended
from labctl.station.loading import LoadedStation, load_station
from labctl.station.model import Nightly
from labctl.station.secrets import take_secrets
from labctl.summary import FirstError, Summary, failure
from labctl.verdicts import COMPLETE, Verdict, exit_codes, verdict_of

LOG = "night.jsonl"
"""In the archive: a line for each step of an ending that failed or left something, and each ending made up for."""
METRICS = "metrics.prom"
STEP_S = 10.0
"""What each step may take."""
RETENTION_S = 10.0
"""How long retention goes on to the next run; the one that it has begun then gets `STEP_S` on top."""


@dataclass(frozen=True)
class Ended:
    """A night that is over.

    Attributes
    ----------
    runs
        The archive.
    bench
        Its bench, and who hears of it.
    summary
        How it ended.
    token
        Tells this night from any other; empty for one that never had the bench.
    """

    runs: Path
    bench: NightBench
    summary: Summary
    token: str = ""


def hand_over_metrics(night: Ended) -> None:
    """Copy the metrics of the run to where a collector looks; a night without a run leaves the last ones there."""
    target, run_id = night.bench.nightly.metrics_folder, night.summary.run_id
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
    path = folder / f"labctl-{night.bench.name}.prom"
    with storage(path, "handing the metrics over"):
        atomic_write_bytes(path, read_regular(written))
        path.chmod(0o644)  # the collector is another user


def remove_raw_data(night: Ended) -> None:
    """Retention, where the station asks for it: whole runs, the oldest first; the next night does what is left."""
    nightly = night.bench.nightly
    if nightly.remove_raw_data:
        found = collect(night.runs, nightly.keep_nights, utc_now(), delete=True, time_s=RETENTION_S)
        if left := found.left:
            size = sum(run.bytes for run in left) / 1e6
            words = f"raw data of {len(left)} runs ({size:.1f} MB) are left for the next night, {len(found.going)} done"
            _log(night, "retention", words, "left")


def tell(night: Ended) -> None:
    """A message where something has changed."""
    notify(night.runs, night.bench.nightly, night.summary, night.token, night.bench.station)


def tell_the_switch(night: Ended) -> None:
    """A dead man's switch hears of every night that had the bench; it is to fire where somebody has to be woken."""
    if night.summary.verdict is not Verdict.BUSY:
        went_well = night.summary.verdict in COMPLETE | {Verdict.PARTIAL, Verdict.ABORTED}
        ping(night.bench.nightly, "" if went_well else "/fail")


STEPS: Mapping[str, Callable[[Ended], None]] = {
    "metrics": hand_over_metrics,
    "message": tell,
    "dead man's switch": tell_the_switch,
    "retention": remove_raw_data,
}
"""In this order; one that fails, or takes longer than it may, does not keep the others from being done."""
_LATER = {name: step for name, step in STEPS.items() if name != "retention"}
"""What is made up for: the next night's own ending looks after the raw data."""


def end_of_night(
    night: Ended, warn: Callable[[str], None], steps: Mapping[str, Callable[[Ended], None]] = STEPS
) -> None:
    """Do every step; each has its time, and what fails is a warning and a line in the archive."""
    for name, step in steps.items():
        words = _tried(step, night, STEP_S + (RETENTION_S if step is remove_raw_data else 0.0))
        if words:
            warn(f"warning: after the night, {name}: {words}")
            _log(night, name, words)


def _tried(step: Callable[[Ended], None], night: Ended, limit_s: float) -> str:
    """Why a step failed; empty where it did not."""
    failed: list[str] = [f"took longer than {limit_s:g} s"]

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
    thread.join(limit_s)
    return failed[0] if failed else ""


def _log(night: Ended, name: str, words: str, key: str = "failed") -> None:
    record = {"at": timestamp(), "bench": night.bench.name, "run": night.summary.run_id}
    try:
        night.runs.mkdir(parents=True, exist_ok=True)
        append_line(night.runs / LOG, {**record, "step": name, key: words})
    except (OSError, LabError):
        return  # a full disk, say: the warning has been given


class Ending:
    """The ending that a night will have, however it ends.

    Parameters
    ----------
    lab
        Whose run and summary say how it ended.
    bench
        Of the night.
    runs
        The archive.
    """

    def __init__(self, lab: Lab, bench: NightBench, runs: Path) -> None:
        self._lab, self._owed = lab, Owed(bench, runs.absolute())
        self._claim: KernelLock | None = None

    def is_due(self, summary: Summary | None = None) -> None:
        """The supervisor, where there is one, does it when the command is over; ``summary`` for a night without run."""
        self._owed = replace(self._owed, summary=summary)
        if self._owed.token:
            with suppress(LabError):  # whose own failure would hide the one that ends the night
                owed.owe(self._owed)
        supervisor.afterwards(__name__, self._owed.to_json())

    def is_owed(self, run: Path | None = None) -> None:
        """The night has the bench, and this run: from now on its ending is made up for where nobody else does it."""
        where = None if run is None else run.absolute()  # whoever makes up for it may be in another folder
        night = replace(self._owed, run=where, token=self._owed.token or secrets.token_hex(8))
        if self._claim is None and (claim := owed.claim(night)) is not None:
            supervisor.keep(claim)
            self._claim = claim
        owed.owe(night)
        self._owed = night
        supervisor.afterwards(__name__, night.to_json())

    def begins(self) -> None:
        """A new night has the bench: what the last one left undone is made up for, and the dead man's switch told."""
        settle_crashed(self._owed.runs, self._owed.bench.name)
        make_up(self._owed.bench.name, self._lab.console.warn)
        tell_the_switch_of_the_start(self._owed.bench.nightly)
        owed.remember(self._owed.bench)
        self.is_owed()

    def follows(self) -> None:
        """Do it here, where there is no supervisor."""
        summary = self._lab.summary
        if not supervisor.is_worker() and summary is not None:
            _end(replace(self._owed, summary=summary), lambda: summary, self._lab.console.warn)
        if self._claim is not None:
            self._claim.release()


@contextmanager
def ending_follows(lab: Lab, loaded: LoadedStation, runs: Path) -> Iterator[Ending]:
    """However the block ends, the night has its ending: by the supervisor, where there is one, and else here."""
    ending = Ending(lab, NightBench.of(loaded), runs)
    ending.is_due()
    try:
        yield ending
    except BaseException as error:
        if lab.run is None:  # busy, or refused: no run tells of it
            lab.summary = _without_run(error, loaded.bench, runs)
            ending.is_due(lab.summary)
        raise
    finally:
        ending.follows()


@contextmanager
def ending_of_resumed(lab: Lab, loaded: LoadedStation, runs: Path, run: Path) -> Iterator[Ending]:
    """The same for a night that goes on, where it does: what is refused is told to whoever typed it, and nobody else.

    Who hears of it is what the bench's last station said, where that is known, and not the one of then. An ending of
    this run that its supervisor has still to do comes first: it tells of a run that is over.
    """
    for night in owed.owed_by(loaded.bench):
        if night.run == run.absolute() and (claim := owed.claim(night, owed.TURN_S)) is not None:
            claim.release()
    ending = Ending(lab, owed.known(loaded.bench) or NightBench.of(loaded), runs)
    try:
        yield ending
    finally:
        if lab.run is not None:
            ending.follows()


@contextmanager
def unread_station_is_told(lab: Lab, runs: Path) -> Iterator[None]:
    """Where the block cannot read the station, people hear of it as the last night that could read it had said.

    The archive has a line of it in any case. Whoever sits at a terminal sees it there, and nobody else is told.
    """
    try:
        yield
    except LabError as error:
        known = owed.known_by_station(Path(lab.bench or ""))
        bench = known or NightBench(Path(lab.bench or "").stem)
        summary = _without_run(error, bench.name, runs)
        _log(Ended(runs, bench, summary), "station", f"{error.code}  {error}")
        if known is not None and not is_attended():
            _end(Owed(known, runs.absolute()), lambda: summary, lab.console.warn)
        raise


def never_began(bench: NightBench, runs: Path, start: str, words: str, look: str, warn: Callable[[str], None]) -> None:
    """The ending of a night of which only the system can tell: it did not begin, or ended before it had the bench.

    Parameters
    ----------
    start
        systemd's name of the start of the service.
    words
        How that ended.
    look
        The command that shows more.
    """
    error = Stalled(words, device=bench.name, action="running a night", hint=look)
    summary = Summary(bench=bench.name, verdict=Verdict.CRASHED, first_error=FirstError.of(error))
    _log(Ended(runs, bench, summary), "start", words)
    _end(Owed(bench, runs, start=start), lambda: summary, warn)


def make_up(bench: str, warn: Callable[[str], None]) -> bool:
    """Do the endings of a bench's nights that were killed with all that watched them; whether there was one.

    Only for whoever holds the bench: then these nights are over. Where a night's supervisor lives, the ending is left
    to it, and nobody waits.
    """
    done = [_made_up(night, warn) for night in owed.owed_by(bench)]
    return any(done)


def _made_up(night: Owed, warn: Callable[[str], None]) -> bool:
    def summary() -> Summary:
        if night.run is not None:
            with suppress(LabError):
                recover(night.run)
        found = summary_of(None, night.run, night.summary, night.bench.name)
        return found if found.started else found.model_copy(update={"started": dt.datetime.fromisoformat(night.began)})

    claim = None
    try:
        claim = owed.claim(night)
        ended = _end(night, summary, warn, _LATER, wait_s=0.0) if claim is not None else None
    except Exception as error:
        warn(f"warning: the ending of the last night could not be made up for: {type(error).__name__}: {error}")
        return False
    finally:
        if claim is not None:
            if not owed.is_owed(night):  # done by its own supervisor just now, which took the lock's file away
                owed.paid(night)
            claim.release()
    if ended is not None:
        words = f"killed with its supervisor; it counts as {ended.summary.verdict}"
        warn(f"warning: the night of {night.began[:16].replace('T', ' ')} UTC had no ending: that is made up for now")
        _log(ended, "ending", words, "made_up")
    return ended is not None


def _end(
    night: Owed,
    summary: Callable[[], Summary],
    warn: Callable[[str], None],
    steps: Mapping[str, Callable[[Ended], None]] = STEPS,
    wait_s: float = owed.TURN_S,
) -> Ended | None:
    """Do the ending of a night, unless another process does it or has done it; None then."""
    take_secrets(night.bench.name, warn)
    with owed.turn(night.bench.name, wait_s) as is_ours:
        if not is_ours:
            return None
        if night.token and not owed.is_owed(night):
            return None
        ended = Ended(night.runs, night.bench, summary(), night.token)
        end_of_night(ended, warn, steps)
        with suppress(OSError, LabError):  # a folder that cannot be written: it is told already
            if night.token:
                owed.paid(night)
            owed.remember_said(night.bench.name, night.start)
        return ended


def tell_the_switch_of_the_start(nightly: Nightly) -> None:
    """For a night that has the bench; it does not wait for an answer. Where nobody answers, its end says so."""

    def attempt() -> None:
        with suppress(NotNotified):
            ping(nightly, "/start")

    threading.Thread(target=attempt, daemon=True, name="ping").start()


def _without_run(error: BaseException, bench: str, runs: Path) -> Summary:
    coded = as_coded(error, runs)
    code = coded.exit_code if isinstance(coded, CodedError) else 1
    return failure(coded, code, Summary(bench=bench, verdict=Verdict.CRASHED))


def summary_of(code: int | None, run: Path | None, given: Summary | None, bench: str) -> Summary:
    """How a night ended: by its run, by what the worker said before it ended, or by the exit code alone.

    Without any of them it was killed: it counts as crashed.
    """
    if run is not None:
        with suppress(LabError):
            return _of_run(RunReader(run), bench)
        return Summary(run_id=run.name, bench=bench, verdict=Verdict.CRASHED)
    if given is not None:
        return given
    if code is None:
        return Summary(bench=bench, verdict=Verdict.CRASHED)
    verdict = verdict_of(code)
    known: dict[str, Any] = {"exit_code": code} if code in exit_codes(verdict) else {}
    return Summary(bench=bench, verdict=verdict, **known)


def _of_run(reader: RunReader, bench: str) -> Summary:
    """Of a run; one that nobody could seal, or whose summary is damaged, counts as crashed."""
    with suppress(LabError):
        if (summary := reader.summary()) is not None and reader.seal is not None:
            return summary
    return Summary(
        run_id=reader.run_id,
        bench=bench,
        verdict=Verdict.CRASHED,
        started=dt.datetime.fromisoformat(str(reader.info["started"])),
    )


def _refused(runs: str, station: str, given: str, *overrides: str) -> Owed:
    """A night that another process kept from its bench; what is known of the bench where its station cannot be read."""
    summary = Summary.model_validate_json(given)
    bench = owed.known(str(summary.bench)) or NightBench(str(summary.bench))
    with suppress(LabError):
        bench = NightBench.of(load_station(Path(station), overrides))
    return Owed(bench, Path(runs), summary=summary)


def main(argv: Sequence[str]) -> int:
    """The program; always 0, as how the night ended has been told already."""
    console = Console()
    try:
        code, run, about, *refused = argv
        night = _refused(about, *refused) if refused else owed.owed_from(about)
        folder = Path(run) if run else None
        _end(night, lambda: summary_of(int(code), folder, night.summary, night.bench.name), console.warn)
    except Exception as error:
        console.warn(f"warning: after the night: {type(error).__name__}: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
