"""The process that runs the contract on a real device: ``python -m labctl.instruments.contract_run run|safe``.

The job is one JSON document on standard input, a `Job`. What happens is told in JSON lines on standard output; what
pytest and the vendor's library print goes to standard error.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
import traceback
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drivers.errors import DeviceError
from drivers.probe import private_output
from drivers.protocols import ROLES, Device, OpenContext
from drivers.registry import open_role
from groundwork.errors import CodedError
from labctl.bench.interlocks import require_closed

_TESTS = """\
import labctl_device_under_test as given
from drivers import testing

TestDevice = type("TestDevice", (getattr(testing, given.contract),), given.attributes)
"""
"""The file that pytest collects; it imports the contracts itself, so that pytest explains what did not hold in them."""

Tell = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Job:
    """What is to be tested.

    Attributes
    ----------
    name, backend, role, options
        The device, as the station has it.
    bench
        As of `OpenContext`.
    light
        Whether tests may switch a light on.
    interlocks
        Devices that must be closed before: (name, backend, options) each.
    period_tolerance_rel
        Of a camera: how far the time between exposures may be from what it states, relative; the contract's if None.
    """

    name: str
    backend: str
    role: str
    options: Mapping[str, Any]
    bench: Mapping[str, Any]
    light: bool = False
    interlocks: Sequence[tuple[str, str, Mapping[str, Any]]] = field(default_factory=tuple)
    period_tolerance_rel: float | None = None

    def open(self) -> Device:
        """The device, opened afresh."""
        return open_role(self.backend, self.role, self.name, self.options, OpenContext(bench=self.bench))


class Reporter:
    """A plugin of pytest that tells what each test did.

    Parameters
    ----------
    tell
        Takes one line.
    leave_out
        Says why a test is not to be run; empty for one that is.
    """

    def __init__(self, tell: Tell, leave_out: Callable[[str], str]) -> None:
        self._tell, self._leave_out = tell, leave_out

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        left_out = {item.name: self._leave_out(item.name) for item in items}
        items[:] = [item for item in items if not left_out[item.name]]
        self._tell({"tests": [item.name for item in items]})
        for name, why in left_out.items():
            if why:
                self._tell({"test": name, "outcome": "left out", "why": why})

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._tell({"begins": nodeid.rpartition("::")[2]})

    def pytest_runtest_makereport(self, item: Any, call: Any) -> None:
        """Tell how a phase of a test ended; a test that passes does so with its call."""
        if call.excinfo is None:
            if call.when == "call":
                self._tell({"test": item.name, "outcome": "passed"})
            return
        error = call.excinfo.value
        skipped = type(error).__name__ == "Skipped"
        self._tell(
            {
                "test": item.name,
                "outcome": "skipped" if skipped else "failed",
                "why": _why(error),
                "text": "" if skipped else str(item.repr_failure(call.excinfo)),
            }
        )


def main(argv: Sequence[str]) -> int:
    """Run the contract, or make the device safe after a process that did not come back; returns the exit code."""
    job = Job(**json.load(sys.stdin))
    with private_output() as tell:
        try:
            if argv[0] == "safe":
                with job.open() as device:
                    device.safe_state()
            else:
                _run(job, tell)
        except CodedError as error:
            tell({"error": {**_parts(error), "code": error.code, "exit_code": error.exit_code}})
            return 1
    return 0


def _run(job: Job, tell: Tell) -> None:
    import pytest

    from labctl.instruments.contracts import contract_of, needs_light, remarks

    if job.role == "source" and job.light:
        _require_interlocks(job)
    with job.open() as device:
        identity = dataclasses.asdict(device.identify())
        notes = remarks(device)
        contract, attributes = contract_of(device, ROLES[job.role].protocol)
    if job.period_tolerance_rel is not None:
        attributes["period_tolerance_rel"] = job.period_tolerance_rel
    tell({"device": identity, "contract": contract, "remarks": notes})

    def leave_out(test: str) -> str:
        dark = job.role == "source" and not job.light and needs_light(test)
        return "it would switch the light on" if dark else ""

    given: Any = types.ModuleType("labctl_device_under_test")
    given.contract, given.attributes = contract, {**attributes, "open": lambda self: job.open()}
    sys.modules[given.__name__] = given
    with tempfile.TemporaryDirectory() as folder:
        test, settings = Path(folder) / "test_device.py", Path(folder) / "pytest.ini"
        test.write_text(_TESTS, encoding="utf-8")
        settings.write_text("[pytest]\n", encoding="utf-8")
        options = ["-c", str(settings), "--rootdir", folder, "-p", "no:cacheprovider", "-q"]
        code = pytest.main([*options, str(test)], plugins=[Reporter(tell, leave_out)])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise DeviceError("the contract suite could not be run", device=job.name, seen=f"pytest ended with {code!r}")
    tell({"done": True})


def _require_interlocks(job: Job) -> None:
    """No light while an interlock is open."""
    context = OpenContext(bench=job.bench)
    for name, backend, options in job.interlocks:
        interlock: Any = open_role(backend, "interlock", name, options, context)
        with interlock:
            require_closed({name: interlock})


def _why(error: BaseException) -> str:
    """Why a test failed or was skipped, in a line."""
    if isinstance(error, DeviceError):
        facts = f" (expected {error.expected}, seen {error.seen})" if error.expected else ""
        return f"{error.code} {error.what}{facts}"
    said = str(error).strip().partition("\n")[0]
    if isinstance(error, AssertionError):
        asked = (traceback.extract_tb(error.__traceback__)[-1].line or "").partition(",")[0].removeprefix("assert ")
        seen = said.removeprefix("assert ")
        return f"does not hold: {asked}" + (f" (seen: {seen})" if seen else "")
    refused = said.removeprefix("DID NOT RAISE ")
    if refused != said:
        return f"it did not refuse: no {refused.rpartition('.')[2].rstrip(chr(39) + '>')} was raised"
    kind = type(error).__name__
    return said if kind in ("Skipped", "Failed") and said else f"{kind}: {said}"


def _parts(error: CodedError) -> dict[str, str]:
    return {name: getattr(error, name) for name in ("what", "device", "action", "expected", "seen", "safe", "hint")}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
