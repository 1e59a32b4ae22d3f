"""Looking for connected devices, each backend in a process of its own with a time limit.

A vendor's library may hang or crash while it looks at a bus: it then takes its own process with it, and nothing else.
``python -m drivers.probe BACKEND LIMIT_S`` is that process. It writes one JSON line for each device found and one when
it is done; what the library prints goes to its standard error.
"""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, BinaryIO

from drivers.backend import Found
from drivers.errors import DeviceError, OptionError
from drivers.options import NOTHING, parse
from drivers.protocols import ROLES, Identity
from drivers.registry import BackendInfo, find_backend

LIMIT_S = 10.0
AT_ONCE = 4
INCOMPLETE = "to be completed by hand: "
"""The note of a device whose backend needs options that nobody can find out by looking begins so."""
_GRACE_S = 2.0
_LAST_WORDS = 400


class Outcome(StrEnum):
    """How a backend's search for devices ended."""

    FOUND = "found"
    NONE = "none"
    NOT_INSTALLED = "not installed"
    BROKEN = "broken"
    CANNOT_LOOK = "cannot look"
    CRASHED = "crashed"
    NO_ANSWER = "no answer"


@dataclass(frozen=True)
class ProbeResult:
    """What a backend found: ``ProbeResult("basler", Outcome.FOUND, devices=(Found(…),))``.

    Attributes
    ----------
    backend
        Its name.
    outcome
        How the search ended.
    detail
        Why there are no devices, in words: ``"crashed (signal 11, SIGSEGV)"``.
    devices
        That answered. Their options are checked: the backend takes them, but for what a note says is missing.
    """

    backend: str
    outcome: Outcome
    detail: str = ""
    devices: tuple[Found, ...] = ()


def probe(
    backends: Iterable[BackendInfo], limit_s: float = LIMIT_S, done: Callable[[ProbeResult], None] = lambda result: None
) -> list[ProbeResult]:
    """Let each backend look for devices, several at a time; results in the order of the backends.

    No device's library is imported in this process, and none can end it or make it wait for longer than
    ``limit_s`` and a little.

    Parameters
    ----------
    backends
        As `drivers.registry.available` lists them with ``probe=True``.
    limit_s
        For each [s]. It includes the start of a process and the import of the library.
    done
        Called from another thread as soon as one has ended.
    """

    running: set[subprocess.Popen[Any]] = set()

    def one(info: BackendInfo) -> ProbeResult:
        result = _unable(info) or _searched(info.name, limit_s, running)
        done(result)
        return result

    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            return list(pool.map(one, backends))
        except BaseException:  # Ctrl-C among them
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(running):
                end(process)
            raise


def python_of_ours(module: str) -> tuple[list[str], dict[str, str]]:
    """Command and environment that run a module in a fresh interpreter which sees the modules that this one sees."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folder for folder in sys.path if folder)}
    return [sys.executable, "-P", "-m", module], environment


def end(process: subprocess.Popen[Any]) -> None:
    """Kill a process that was started with `OWN_GROUP`, and those that it has started.

    One that hangs inside the operating system survives even that; it is not waited for.
    """
    if sys.platform != "win32":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_S)


if sys.platform == "win32":
    OWN_GROUP: dict[str, Any] = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
else:
    OWN_GROUP: dict[str, Any] = {"start_new_session": True}
"""Arguments of `subprocess.Popen`: Ctrl-C reaches us only, and the process can be ended with all that it started."""


def how_it_ended(returncode: int) -> str:
    """In words: ``"signal 11, SIGSEGV"``, ``"exit code 3"``, of Windows ``"exit code 0xC0000005"``."""
    if returncode < 0:
        name = ""
        with contextlib.suppress(ValueError):
            name = f", {signal.Signals(-returncode).name}"
        return f"signal {-returncode}{name}"
    return f"exit code 0x{returncode:08X}" if returncode > 255 else f"exit code {returncode}"


def _unable(info: BackendInfo) -> ProbeResult | None:
    """The result of a backend that cannot look."""
    if info.lacking:
        return ProbeResult(info.name, Outcome.NOT_INSTALLED, info.broken or "")
    if info.broken:
        return ProbeResult(info.name, Outcome.BROKEN, info.broken)
    if not info.discovers:
        return ProbeResult(info.name, Outcome.CANNOT_LOOK, "its devices are named in the station file by hand")
    return None


def _searched(name: str, limit_s: float, running: set[subprocess.Popen[Any]]) -> ProbeResult:
    """The result of one process. Its output goes to files: a pipe could be held open by what it leaves behind."""
    command, environment = python_of_ours("drivers.probe")
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            [*command, name, str(limit_s)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=environment,
            **OWN_GROUP,
        )
        running.add(process)
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            end(process)
            running.discard(process)
        lines = _lines(out)
        if code is None and not (lines and {"done", "error"} & lines[-1].keys()):
            return ProbeResult(name, Outcome.NO_ANSWER, f"no answer within {limit_s:g} s")
        return _read(name, code or 0, lines, last_words(err))  # also where all is said and a library does not end


def _read(name: str, code: int, lines: list[dict[str, Any]], last_words: str) -> ProbeResult:
    """The result that the lines of a process stand for."""
    last = lines[-1] if lines else {}
    if "error" in last:
        return ProbeResult(name, Outcome.BROKEN, str(last["error"]))
    if "done" not in last:
        said = f": {last_words}" if last_words else ""
        return ProbeResult(name, Outcome.CRASHED, f"crashed ({how_it_ended(code)}){said}")
    devices = tuple(
        Found(line["role"], Identity(**line["identity"]), line["options"], line["note"]) for line in lines[:-1]
    )
    return ProbeResult(name, Outcome.FOUND if devices else Outcome.NONE, devices=devices)


def _lines(out: BinaryIO) -> list[dict[str, Any]]:
    """The JSON lines of a file; what a dying process has left unfinished is dropped."""
    out.seek(0)
    lines = []
    for text in out.read().decode(errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            lines.append(json.loads(text))
    return [line for line in lines if isinstance(line, dict)]


def last_words(err: BinaryIO) -> str:
    """The last line that a process has printed, but those in which Python lists where each thread was."""
    err.seek(0)
    text = err.read().decode(errors="replace")
    spoken = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith(" ")]
    ours = ("Fatal Python error", "Current thread", "Thread 0x", "Extension modules", "Timeout (", "Traceback")
    spoken = [line for line in spoken if not line.startswith(ours)]
    return spoken[-1][-_LAST_WORDS:] if spoken else ""


# The process that looks ----------------------------------------------------------------------------------------------


def main(argv: Sequence[str]) -> int:
    """Look with one backend; returns the exit code."""
    name, limit_s = argv
    # A library that holds Python's own lock for ever is ended by a thread that needs none, should nobody kill us.
    faulthandler.dump_traceback_later(float(limit_s) + _GRACE_S, exit=True)
    faulthandler.enable()
    with private_output() as tell:
        try:
            for line in _looked(name):
                tell(line)
        except DeviceError as error:
            seen = f" ({error.seen})" if error.seen else ""
            tell({"error": f"{error.code} {error.what}{seen}"})
        except Exception as error:
            tell({"error": f"{type(error).__name__}: {error}"})
    return 0


@contextlib.contextmanager
def private_output() -> Any:
    """A function that writes JSON lines to standard output, which from now on only we have: prints go to stderr."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as ours:
        os.dup2(2, 1)

        def tell(line: Mapping[str, Any]) -> None:
            ours.write(json.dumps(line, allow_nan=False) + "\n")
            ours.flush()

        yield tell


def _looked(name: str) -> list[dict[str, Any]]:
    """One line for each device that a backend finds, and a last one; what the backend itself would refuse is refused.

    Raises
    ------
    TypeError, ValueError
        When a device has a role that the backend cannot fill, or options that no station file can hold.
    OptionError
        When its options are not those of the backend; where one is only missing, the device's note says so.
    """
    backend = find_backend(name)
    assert backend.discover is not None
    lines: list[dict[str, Any]] = []
    for found in backend.discover():
        if found.role not in backend.roles:
            raise ValueError(f"{name} found a device for the role {found.role!r}, which is none of {backend.roles}")
        options = _plain(found.options, "options")
        note = found.note
        try:
            parse(backend.options, options, f"devices.{found.role}")
        except OptionError as error:
            if error.seen != NOTHING:
                raise
            note = f"{INCOMPLETE}{error.what}, {error.expected}" + (f"; {note}" if note else "")
        identity = {field: str(value) for field, value in dataclasses.asdict(found.identity).items()}
        lines.append({"role": found.role, "identity": identity, "options": options, "note": note})
    order = list(ROLES)
    lines.sort(key=lambda line: order.index(line["role"]))
    return [*lines, {"done": len(lines)}]


def _plain(value: Any, where: str) -> Any:
    """A value as a station file can hold it; what is None is left out of tables."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one, f"{where}.{key}") for key, one in value.items() if one is not None}
    if isinstance(value, list | tuple):
        return [_plain(one, where) for one in value]
    if hasattr(value, "item"):  # numpy's numbers
        value = value.item()
    if isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise TypeError(f"{where} is {value!r}, which no station file can hold")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
