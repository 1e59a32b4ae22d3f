"""Who hears of a night, and when: of changes, not of states.

A message goes out when a bench falls ill, when it is well again, when it is ill in the same way for the second night
running, and when it was busy two nights running; of drift and used-up budgets once a week. What a bench was like is
kept in ``RUNS/nights/BENCH.json``. Addresses come from the environment alone and stand in no file and no message.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from labctl.archive.atomic import atomic_write_json
from labctl.archive.ids import timestamp
from labctl.clock import utc_now
from labctl.errors import NotNotified
from labctl.station.model import Nightly
from labctl.summary import Summary, number
from labctl.verdicts import VERDICTS, Verdict

FOLDER = "nights"
DIGEST = dt.timedelta(days=7)
HOOK_S = 8.0
ADDRESS_S = 5.0
_DIGESTED = frozenset({Verdict.DRIFT, Verdict.PARTIAL})


@dataclass(frozen=True)
class BenchState:
    """What a bench was like after its last night.

    Attributes
    ----------
    verdict
        Of the last night that was neither busy nor aborted; empty before the first.
    nights
        How many nights in a row ended so.
    busy
        How many nights in a row found the bench in use.
    digested
        When drift or a used-up budget was last told of; ISO 8601, empty for never.
    """

    verdict: str = ""
    nights: int = 0
    busy: int = 0
    digested: str = ""


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


def notify(runs: Path, nightly: Nightly, summary: Summary) -> Message | None:
    """Tell those who should hear of it how a night ended; returns what they were told, None for nothing.

    Raises
    ------
    NotNotified
        When a program or an address did not take the message; the other way was tried, and the state is kept.
    """
    bench = summary.bench or "unknown bench"
    path = runs / FOLDER / f"{bench}.json"
    state, change = after_night(_read(path), summary, utc_now())
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_json(path, asdict(state))
    if not change:
        return None
    message = message_of(bench, summary, change)
    send(nightly, message)
    return message


def after_night(before: BenchState, summary: Summary, now: dt.datetime) -> tuple[BenchState, str]:
    """What the bench is like now, and what of that is worth a message, in a word; empty for nothing."""
    verdict = summary.verdict
    if verdict is Verdict.ABORTED:
        return before, ""
    if verdict is Verdict.BUSY:
        return replace(before, busy=before.busy + 1), "busy again" if before.busy == 1 else ""
    same = before.verdict == str(verdict)
    state = replace(before, verdict=str(verdict), nights=before.nights + 1 if same else 1, busy=0)
    if verdict in _DIGESTED:
        due = not before.digested or now - dt.datetime.fromisoformat(before.digested) >= DIGEST
        return (replace(state, digested=timestamp(now)), "noticed") if due else (state, "")
    if verdict is Verdict.OK:
        was_ill = before.verdict not in ("", "ok", *_DIGESTED)
        return state, "recovered" if was_ill else ""
    if not same:
        return state, "new"
    return state, "again" if state.nights == 2 else ""


def message_of(bench: str, summary: Summary, change: str) -> Message:
    """The message: bench, verdict, the one number or error that says why, the run, and what to type next."""
    row = next(row for row in VERDICTS if row.verdict is summary.verdict)
    subject = f"{bench}: {summary.verdict} ({change})"
    lines = [row.meaning]
    if why := _why(summary):
        lines.append(why)
    if summary.run_id:
        lines += [f"run {summary.run_id}", f"look further: labctl run show {summary.run_id.rpartition('-')[2]}"]
    else:
        lines.append("look further: labctl nightly status")
    return Message(bench, str(summary.verdict), summary.run_id, subject, "\n".join(lines))


def _why(summary: Summary) -> str:
    if (error := summary.first_error) is not None:
        return f"{error.code}  {f'{error.device}: ' if error.device else ''}{error.message}"
    for metric in summary.metrics:
        if metric.verdict == "out_of_spec":
            unit = "" if metric.unit in ("", "1") else f" {metric.unit}"
            return f"{metric.name} {number(metric.value, '.4g')}{unit}, limit {metric.limit}"
    alarms = [f"{c.metric} at {number(c.z, '+.1f')} sigmas" for c in summary.drift if c.state == "alarm"]
    return f"drift: {', '.join(alarms)}" if alarms else ""


def send(nightly: Nightly, message: Message) -> None:
    """Send it every way that the station names.

    Raises
    ------
    NotNotified
        When one of them failed; all were tried.
    """
    failed = []
    if nightly.notify and (words := _run(nightly.notify, message.text)):
        failed.append(f"{nightly.notify[0]}: {words}")
    if nightly.webhook_env:
        document = {**asdict(message), "text": message.text}
        if words := _call(nightly.webhook_env, "", json.dumps(document).encode()):
            failed.append(words)
    _raise(failed)


def ping(nightly: Nightly, ending: str) -> None:
    """Tell the dead man's switch: that a night starts (``/start``), went well (nothing), or did not (``/fail``).

    Raises
    ------
    NotNotified
        When the address did not answer.
    """
    if nightly.ping_env and (words := _call(nightly.ping_env, ending, None)):
        _raise([words])


def _raise(failed: Sequence[str]) -> None:
    if failed:
        raise NotNotified(
            "nobody could be told" if len(failed) == 1 else "nobody could be told, in two ways",
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
        process.communicate(text.encode(), timeout=HOOK_S)
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
    for handler in (
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.HTTPDefaultErrorHandler,
    ):
        opener.add_handler(handler())
    try:
        request = urllib.request.Request(address.rstrip("/") + ending, data, headers)
        with opener.open(request, timeout=ADDRESS_S):
            return ""
    except urllib.error.HTTPError as error:
        return f"the address in {variable} answered {error.code}"
    except (OSError, ValueError) as error:
        return f"the address in {variable} does not answer: {type(getattr(error, 'reason', error)).__name__}"


def _read(path: Path) -> BenchState:
    """The state that was kept; where it cannot be read, the night counts as the first."""
    try:
        return BenchState(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return BenchState()
