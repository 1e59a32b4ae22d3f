"""Who hears of a night, and when: of changes, not of states.

A message goes out when a bench falls ill, when it is well again, when it is ill in the same way for the second night
running, and when it was busy two nights running; of drift and used-up budgets once a week. What reached nobody is told
again after the next night. A night that was stopped, or did not get to its end in its time, says nothing of the bench:
it neither ends an alarm nor repeats it. What a bench was like is kept in ``RUNS/nights/BENCH.json``, and where the
archive does not take it, in this user's state folder until it does. Addresses come from the environment alone and stand
in no file and no message.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import http.client
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from groundwork.opening.json_text import read_json
from labctl.archive.atomic import atomic_write_json, storage
from labctl.archive.ids import timestamp
from labctl.clock import utc_now
from labctl.errors import LabError, NotNotified, ends_again
from labctl.hints import completed
from labctl.osal import absolute, state_directory
from labctl.station.model import Nightly
from labctl.summary import Summary, number
from labctl.verdicts import VERDICTS, Verdict

FOLDER = "nights"
LOG = "/log"
DIGEST = dt.timedelta(days=6, hours=12)
"""A week, less what a night may end earlier than the one before."""
SAME_NIGHT = dt.timedelta(hours=6)
"""A bench found in use twice within this time was so on one night: somebody tried again."""
HOOK_S = 8.0
ADDRESS_S = 5.0
SEND_S = 9.0
"""For both ways, which go at once: less than an ending gives each of its steps."""
_WELL = frozenset({Verdict.OK, Verdict.DRIFT})
_GOES_ON = frozenset({Verdict.FAULT, Verdict.INTERLOCK, Verdict.STORAGE, Verdict.PARTIAL, Verdict.CRASHED})
"""A night that ended so is worth going on with, unless its error would end it again."""
KILLED = "the night did not end as it should: it was killed, or never began"
WEEKLY = "told once a week"


@dataclass(frozen=True)
class BenchState:
    """What a bench was like after its last night.

    Attributes
    ----------
    verdict
        Of the last night that was complete or failed, and not busy, aborted or partial; empty before the first.
    nights
        How many nights in a row ended so.
    busy
        How many nights in a row found the bench in use.
    busy_at
        When the last of them did; ISO 8601, empty for never.
    ill
        Verdict, other than a well bench's, that people were last told of; empty where they know it to be well.
    digested, budget_told
        When drift, and a used-up budget, was last told of; ISO 8601, empty for never.
    token
        Of the last night that counts: its ending may be done twice, and is told once.
    """

    verdict: str = ""
    nights: int = 0
    busy: int = 0
    busy_at: str = ""
    ill: str = ""
    digested: str = ""
    budget_told: str = ""
    token: str = ""

    def __post_init__(self) -> None:
        """Refuse what a damaged file may hold.

        Raises
        ------
        ValueError
            When a field is of another type, or no time where one belongs.
        """
        if any(type(value) is not type(getattr(BenchState, name)) for name, value in asdict(self).items()):
            raise ValueError("a field has another type")
        times = (self.busy_at, self.digested, self.budget_told)
        if any(text and dt.datetime.fromisoformat(text).tzinfo is None for text in times):
            raise ValueError("a time has no zone")


@dataclass(frozen=True)
class Message:
    """What is sent: one line that says it all, and what to look at."""

    bench: str
    verdict: str
    run_id: str | None
    subject: str
    body: str

    @property
    def text(self) -> str:
        """All of it."""
        return f"{self.subject}\n{self.body}\n"


def notify(runs: Path, nightly: Nightly, summary: Summary, token: str = "", station: str = "") -> Message | None:
    """Tell those who should hear of it how a night ended; returns what they were told, None for nothing.

    Parameters
    ----------
    token
        Tells this night from any other: what was told of it is not told again. Empty for one that never had the bench.
    station
        The bench's station file, for what is to be typed next; empty where it is not known.

    Raises
    ------
    NotNotified
        When a program or an address did not take the message; the other way was tried. Where no way took it, the night
        does not count, so that the next one tells of the change.
    """
    bench = summary.bench or "unknown bench"
    before = _read(runs, bench)
    if token and before.token == token:
        return None
    state, change = after_night(before, summary, utc_now())
    message = message_of(runs, bench, summary, change, station) if change else None
    failed = [] if message is None else send(nightly, message)
    if not failed or len(failed) < bool(nightly.notify) + bool(nightly.webhook_env):
        _keep(runs, bench, replace(state, token=token or state.token))
    require_sent(failed)
    return message


def after_night(before: BenchState, summary: Summary, now: dt.datetime) -> tuple[BenchState, str]:
    """What the bench is like now, and what of that is worth a message, in a word; empty for nothing."""
    verdict = summary.verdict
    if verdict is Verdict.ABORTED:
        return before, ""
    if verdict is Verdict.BUSY:
        return _after_busy(before, now)
    if verdict is Verdict.PARTIAL:
        state = replace(before, busy=0, busy_at="")
        due = _is_due(before.budget_told, now)
        return (replace(state, budget_told=timestamp(now)), WEEKLY) if due else (state, "")
    same = before.verdict == str(verdict)
    state = replace(before, verdict=str(verdict), nights=before.nights + 1 if same else 1, busy=0, busy_at="")
    if verdict in _WELL and before.ill:
        return replace(state, ill=""), "recovered"
    if verdict is Verdict.DRIFT or (verdict is Verdict.OK and any(chart.state == "alarm" for chart in summary.drift)):
        due = _is_due(before.digested, now)
        return (replace(state, digested=timestamp(now)), WEEKLY) if due else (state, "")
    if verdict in _WELL:
        return state, ""
    state = replace(state, ill=str(verdict))
    if not same:
        return state, "new"
    return state, "again" if state.nights == 2 else ""


def _is_due(told: str, now: dt.datetime) -> bool:
    """Whether a week has gone since this was told last; another thing that is told once a week does not count."""
    return not told or abs(now - dt.datetime.fromisoformat(told)) >= DIGEST


def _after_busy(before: BenchState, now: dt.datetime) -> tuple[BenchState, str]:
    if before.busy_at and abs(now - dt.datetime.fromisoformat(before.busy_at)) < SAME_NIGHT:
        return before, ""
    state = replace(before, busy=before.busy + 1, busy_at=timestamp(now))
    return (replace(state, ill=before.ill or "busy"), "busy again") if state.busy == 2 else (state, "")


def message_of(runs: Path, bench: str, summary: Summary, change: str, station: str = "") -> Message:
    """The message: bench, verdict, the one number or error that says why, the run, and what to type next."""
    row = next(row for row in VERDICTS if row.verdict is summary.verdict)
    subject = f"{bench}: {summary.verdict} ({change})"
    lines = [KILLED if summary.verdict is Verdict.CRASHED else row.meaning]
    if why := _why(summary):
        lines.append(why)
    error = summary.first_error
    if error is not None and error.safe and summary.verdict is Verdict.CRASHED:
        lines.append(error.safe)
    if summary.run_id:
        short = summary.run_id.rpartition("-")[2]
        lines.append(f"run {summary.run_id}")
        if summary.verdict in _GOES_ON and not (error is not None and ends_again(error.code)):
            lines.append(f"go on: labctl run resume {short}")
        look = f"labctl run show {short}"
    elif summary.verdict is Verdict.BUSY:
        look = f"labctl bench who {shlex.quote(bench)}"
    else:
        lines += [f"try: {error.hint}"] if error is not None and error.hint else []
        look = "labctl nightly status"
    lines.append(f"look further: {look}")
    here = {"--runs": str(absolute(runs)), **({"--bench": station} if station else {})}
    return Message(bench, str(summary.verdict), summary.run_id, subject, completed("\n".join(lines), here))


def _why(summary: Summary) -> str:
    if (error := summary.first_error) is not None:
        return f"{error.code}  {f'{error.device}: ' if error.device else ''}{error.message}"
    for metric in summary.metrics:
        if metric.verdict == "out_of_spec":
            unit = "" if metric.unit in ("", "1") else f" {metric.unit}"
            return f"{metric.name} {number(metric.value, '.4g')}{unit}, limit {metric.limit}"
    alarms = [f"{c.metric} at {number(c.z, '+.1f')} sigmas" for c in summary.drift if c.state == "alarm"]
    return f"drift: {', '.join(alarms)}" if alarms else ""


def send(nightly: Nightly, message: Message) -> list[str]:
    """Send it every way that the station names, at once; returns why a way failed, for each that did."""
    return [words for words in send_each(nightly, message).values() if words]


def send_each(nightly: Nightly, message: Message) -> dict[str, str]:
    """The same; for each way, in words, why it failed: empty where it did not."""
    told: dict[str, str] = {}
    ends = time.monotonic() + SEND_S
    answers = [f"the address in {nightly.webhook_env} took longer than {SEND_S:g} s"]
    document = json.dumps({**asdict(message), "text": message.text}).encode()

    def post() -> None:
        answers.append(_call(nightly.webhook_env, "", document))

    posting = threading.Thread(target=post, daemon=True, name="webhook")
    if nightly.webhook_env:
        posting.start()
    if nightly.notify:
        words = _run(nightly.notify, message.text)
        told[f"program {nightly.notify[0]}"] = f"{nightly.notify[0]}: {words}" if words else ""
    if nightly.webhook_env:
        posting.join(max(0.0, ends - time.monotonic()))
        told[f"webhook {nightly.webhook_env}"] = answers[-1]
    return told


def ping(nightly: Nightly, ending: str) -> None:
    """Tell the dead man's switch: that a night starts (``/start``), went well (nothing), or did not (``/fail``).

    ``/log`` says neither, and the switch goes on waiting. The words are those of https://healthchecks.io/docs/http_api/.

    Raises
    ------
    NotNotified
        When the address did not answer.
    """
    if nightly.ping_env and (words := ping_words(nightly, ending)):
        require_sent([words])


def ping_words(nightly: Nightly, ending: str) -> str:
    """Tell the dead man's switch; why that failed, in words: empty where it did not."""
    return _call(nightly.ping_env, ending, None)


def require_sent(failed: Sequence[str]) -> None:
    """Go on only where no way of telling people failed.

    Raises
    ------
    NotNotified
        Otherwise; it says why.
    """
    if failed:
        raise NotNotified(
            "one way of telling people failed" if len(failed) == 1 else f"{len(failed)} ways of telling people failed",
            action="telling how the night ended",
            seen="; ".join(failed),
            safe="the run and its verdict stay as they are",
            hint="labctl nightly test-notify",
        )


def _run(command: Sequence[str], text: str) -> str:
    """Why a program did not take the text; empty where it did. What it leaves behind is ended with it."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        return f"did not start: {error}"
    try:
        process.communicate(os.fsencode(text), timeout=HOOK_S)
        return f"exit code {process.returncode}" if process.returncode else ""
    except subprocess.TimeoutExpired:
        return f"ended after {HOOK_S:g} s"
    finally:
        if sys.platform != "win32":
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.wait()


def _call(variable: str, ending: str, data: bytes | None) -> str:
    """Why the address in an environment variable did not take it; empty where it did. Never says the address."""
    address = os.environ.get(variable, "").strip()
    if not address:
        return f"the environment variable {variable} is not set"
    if not address.lower().startswith(("http://", "https://")):
        return f"the address in {variable} begins with neither http:// nor https://"
    headers = {"Content-Type": "application/json", "User-Agent": "labctl"}
    opener = urllib.request.OpenerDirector()
    for handler in (  # none that follows to another address
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.HTTPDefaultErrorHandler,
    ):
        opener.add_handler(handler())
    try:
        parts = urlsplit(address)
        whole = urlunsplit(parts._replace(path=parts.path.rstrip("/") + ending))
        request = urllib.request.Request(whole, data, headers)
        with opener.open(request, timeout=ADDRESS_S):
            return ""
    except urllib.error.HTTPError as error:
        return f"the address in {variable} answered {error.code}"
    except (OSError, ValueError, http.client.HTTPException) as error:  # whose words may hold the address
        return f"the address in {variable} does not answer: {type(getattr(error, 'reason', error)).__name__}"


def _keep(runs: Path, bench: str, state: BenchState) -> None:
    """Keep the state in the archive, or beside it where the archive does not take it.

    Raises
    ------
    StorageError
        When neither does: the next night tells people again.
    """
    path, elsewhere = _in_archive(runs, bench), _elsewhere(runs, bench)
    try:
        with storage(path, "keeping what people were told"):
            path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_json(path, asdict(state))
    except LabError:
        with storage(elsewhere, "keeping what people were told"):
            elsewhere.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_json(elsewhere, asdict(state))
    else:
        with contextlib.suppress(OSError):
            elsewhere.unlink(missing_ok=True)


def _read(runs: Path, bench: str) -> BenchState:
    """The state that was kept last; where none can be read, the night counts as the first."""
    for path in (_elsewhere(runs, bench), _in_archive(runs, bench)):
        with contextlib.suppress(OSError, ValueError, TypeError):
            return BenchState(**read_json(path))
    return BenchState()


def _in_archive(runs: Path, bench: str) -> Path:
    return runs / FOLDER / f"{bench}.json"


def _elsewhere(runs: Path, bench: str) -> Path:
    """There only while the archive does not take it; one for each archive."""
    archive = hashlib.sha256(os.fsencode(absolute(runs))).hexdigest()[:12]
    return state_directory() / FOLDER / "told" / f"{bench}-{archive}.json"
