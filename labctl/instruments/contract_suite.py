"""The contract suite on a device of the station, in a process of its own that is ended when it does not come back."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import queue
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from drivers.errors import DeviceError, DeviceTimeout, NotConnected
from drivers.probe import OWN_GROUP, end, how_it_ended, last_words, python_of_ours
from groundwork.nearest import did_you_mean
from labctl.bench.bench import open_context
from labctl.errors import InterlockOpen, LabError, UsageError
from labctl.instruments.contract_run import Job
from labctl.station.model import Station

LIMIT_S = 60.0
SAFE_LIMIT_S = 20.0
_MODULE = "labctl.instruments.contract_run"


@dataclass(frozen=True)
class ContractRow:
    """One test: ``ContractRow("roi reads back", "PASS")``.

    Attributes
    ----------
    test
        What must hold, in words.
    state
        ``PASS``, ``FAIL``, ``SKIP`` (why the device cannot be asked), ``LEFT OUT`` (why it must not), or ``NOT RUN``.
    why
        In a line.
    text
        All that pytest says of a failure.
    """

    test: str
    state: str
    why: str = ""
    text: str = ""


@dataclass
class ContractResult:
    """How a device did.

    Attributes
    ----------
    identity
        What it says that it is.
    contract
        The class of `drivers.testing` that was run.
    rows
        One for each test, cases of one test taken together.
    remarks
        What a person must know of the result.
    safe
        Whether the device was left safe, as far as is known.
    """

    identity: dict[str, str] = field(default_factory=dict)
    contract: str = ""
    rows: list[ContractRow] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    safe: bool = True

    def count(self, state: str) -> int:
        """Tests that ended so."""
        return sum(row.state == state for row in self.rows)


def job_for(station: Station, name: str, *, light: bool, period_tolerance_rel: float | None = None) -> Job:
    """What is to be tested.

    Raises
    ------
    UsageError
        When the station has no device of that name, or pytest is not installed.
    """
    require_device(station, name)
    if importlib.util.find_spec("pytest") is None:
        raise UsageError(
            "the contract suite needs pytest, which is not installed",
            device=name,
            action="devices test",
            hint="pip install pytest",
        )
    table, devices = station.devices[name], station.devices
    interlocks = [(one, devices[one].backend, devices[one].options) for one in devices.named("interlock")]
    bench = dict(open_context(station).bench)
    return Job(name, table.backend, table.role, table.options, bench, light, interlocks, period_tolerance_rel)


def require_device(station: Station, name: str) -> None:
    """Refuse a name that no device of the station has."""
    if name not in station.devices.root:
        raise UsageError(
            f"the station has no device {name!r}",
            expected="one of " + ", ".join(station.devices.root),
            seen=name,
            hint=did_you_mean(name, station.devices.root, "labctl station show   ·   another station: --bench FILE"),
        )


def run_contract(
    job: Job, limit_s: float = LIMIT_S, done: Callable[[ContractRow], None] = lambda row: None
) -> ContractResult:
    """Run every test of the device's contract; a test that does not come back is ended, and the device made safe.

    Parameters
    ----------
    limit_s
        For each test, and for opening the device [s].
    done
        Called with each test when it is known how it ended.

    Raises
    ------
    DeviceError
        When the device does not open, or an interlock is open.
    """
    said, late = _Said(done), False
    with tempfile.TemporaryFile() as err:
        process = _start(job, "run", subprocess.PIPE, err)
        try:
            for line in _lines(process, limit_s):
                said.take(line)
        except (TimeoutError, subprocess.TimeoutExpired):
            late = True
        finally:
            end(process)
            if not said.finished:
                said.result.safe = _make_safe(job)
        words = last_words(err)
    if said.finished:
        return said.result
    ended = f"{how_it_ended(process.returncode or 0)}{f': {words}' if words else ''}"
    if said.current is None and late:
        raise DeviceTimeout(f"{job.name} did not open within {limit_s:g} s", device=job.name, action="devices test")
    if said.current is None:
        raise NotConnected("the driver took its process with it", device=job.name, action="open", seen=ended)
    said.broke_off(
        f"it did not come back within {limit_s:g} s, and was ended"
        if late
        else f"the driver took its process with it: {ended}"
    )
    return said.result


class _Said:
    """Gathers what the process tells."""

    def __init__(self, done: Callable[[ContractRow], None]) -> None:
        self.result = ContractResult()
        self.current: str | None = None
        self.finished = False
        self._done = done
        self._expected: list[str] = []
        self._cases: dict[str, list[dict[str, Any]]] = {}

    def take(self, line: dict[str, Any]) -> None:
        if "error" in line:
            self.finished = True
            raise _coded(line["error"])
        if "device" in line:
            self.result.identity, self.result.contract = line["device"], line["contract"]
            self.result.remarks += line["remarks"]
        elif "tests" in line:
            self._expected = list(line["tests"])
        elif "begins" in line:
            self.current = line["begins"]
        elif "test" in line:
            self._note(line)
        elif "done" in line:
            self.finished = True
            for case in list(self._cases):
                self._finish(case)

    def broke_off(self, why: str) -> None:
        """The process is gone in the middle of a test: that one failed, and those after it were not run."""
        self._note({"test": self.current, "outcome": "failed", "why": why})
        for test in list(self._expected):
            self._note({"test": test, "outcome": "not run", "why": "after a test that broke off"})
        for case in list(self._cases):
            self._finish(case)

    def _note(self, line: dict[str, Any]) -> None:
        """Take one case of a test; with the last of them the test is over."""
        case = line["test"].partition("[")[0]
        self._cases.setdefault(case, []).append(line)
        self._expected = [test for test in self._expected if test != line["test"]]
        if not any(test.partition("[")[0] == case for test in self._expected):
            self._finish(case)

    def _finish(self, case: str) -> None:
        lines = self._cases.pop(case)
        states = {"failed": "FAIL", "not run": "NOT RUN", "skipped": "SKIP", "left out": "LEFT OUT", "passed": "PASS"}
        outcome = next(outcome for outcome in states if any(line["outcome"] == outcome for line in lines))
        of_note = [line for line in lines if line["outcome"] == outcome]
        many = f"{len(of_note)} of {len(lines)} cases: " if len(lines) > 1 and outcome == "failed" else ""
        words = case.removeprefix("test_").replace("_", " ")
        why = of_note[0].get("why", "")
        text = "\n\n".join(line.get("text", "") for line in of_note).strip()
        earlier = next((i for i, row in enumerate(self.result.rows) if row.test == words), None)
        row = ContractRow(words, states[outcome], f"{many}{why}" if why else "", text)
        if earlier is None:
            self.result.rows.append(row)
        else:  # a test that passed and could not be tidied up
            self.result.rows[earlier] = row
        self._done(row)


def _start(job: Job, what: str, out: int, err: Any) -> subprocess.Popen[bytes]:
    command, environment = python_of_ours(_MODULE)
    environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    process = subprocess.Popen(
        [*command, what], stdin=subprocess.PIPE, stdout=out, stderr=err, env=environment, **OWN_GROUP
    )
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin as stream:  # it died at once: that is seen soon enough
        stream.write(json.dumps(asdict(job)).encode())
    return process


def _lines(process: subprocess.Popen[bytes], limit_s: float) -> Iterator[dict[str, Any]]:
    """JSON lines as they come, up to the last one; `TimeoutError` when none comes for ``limit_s``."""
    lines: queue.Queue[bytes | None] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        with process.stdout as stream:
            for text in stream:
                lines.put(text)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            text = lines.get(timeout=limit_s)
        except queue.Empty:
            raise TimeoutError from None
        if text is None:
            process.wait(limit_s)
            return
        line: dict[str, Any] = json.loads(text)
        yield line
        if "done" in line:
            return


def _make_safe(job: Job) -> bool:
    """Open the device in a fresh process, make it safe, close it; whether that went well."""
    process = _start(job, "safe", subprocess.DEVNULL, subprocess.DEVNULL)
    try:
        return process.wait(SAFE_LIMIT_S) == 0
    except subprocess.TimeoutExpired:
        return False
    finally:
        end(process)


def _coded(parts: dict[str, Any]) -> LabError | DeviceError:
    """The error that the process met, as one of ours."""
    kinds: dict[str, Any] = {kind.code: kind for kind in _family(DeviceError)} | {InterlockOpen.code: InterlockOpen}
    words = {key: value for key, value in parts.items() if key not in ("code", "exit_code", "what")}
    kind = kinds.get(parts["code"], DeviceError)
    error: LabError | DeviceError = kind(parts["what"], **words)
    return error


def _family(kind: type[DeviceError]) -> Iterator[type[DeviceError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _family(below)
