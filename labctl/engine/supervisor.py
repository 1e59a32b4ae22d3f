"""Watch the bench commands from a process of their own: a worker that makes no progress is ended, the bench made safe.

The parent imports nothing but the standard library. It runs the same command line again as a worker, in the same
process group and on the same terminal, and waits. The worker reports progress on a pipe, one line at a time: an empty
line for each settled frame and finished node, one with JSON where a run is opened (its folder), and where the watch
begins (how long a silence may last) and ends. No timer reports: a worker that lives and does nothing is silent.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO

from labctl.osal import Terminated, can_supervise, write_line
from labctl.verdicts import VERDICTS

COMMANDS = frozenset({"demo", "measure", "calibrate"})
RESUME = ["run", "resume"]
BENCH_OPTION = "--on-bench"  # makes any other command one that opens devices
WORKER = "LABCTL_WORKER"
OFF = "LABCTL_NO_SUPERVISOR"
FAULT = 20
GRACE_S = 2.0
SAFE_STATE_S = 20.0
THREADS = "threads.txt"
_DUMP_S = 0.5
_OVERSLEPT_S = 1.0
_EXIT_CODES = frozenset(code for row in VERDICTS for code in row.exit_codes)
_STOPS = frozenset({signal.SIGINT, signal.SIGTERM})


@dataclass(frozen=True)
class Watch:
    """The run that the worker has opened, in the folder ``run``.

    While devices are in use, silence of ``stall_s`` [s] is a stall; it is None while none is.
    """

    run: Path
    stall_s: float | None


# The worker's side ---------------------------------------------------------------------------------------------------

_pipe: int | None = None


def enlist() -> None:
    """In a worker: take over the pipe, and dump all threads into the parent's file when it asks for that."""
    global _pipe
    about = os.environ.pop(WORKER, "")
    if about:
        _pipe, dump = (int(number) for number in about.split(","))
        faulthandler.register(signal.SIGUSR1, file=dump, all_threads=True)


def is_worker() -> bool:
    """Whether a supervisor watches this process."""
    return _pipe is not None


def opened(run: Path) -> None:
    """There is a run, which somebody must seal; no device is in use yet."""
    _send(json.dumps({"run": str(run.absolute()), "stall_s": None}))


def watch(run: Path, stall_s: float) -> None:
    """Devices are in use from now on: silence for ``stall_s`` seconds is a stall."""
    _send(json.dumps({"run": str(run.absolute()), "stall_s": stall_s}))


def unwatch() -> None:
    """The devices are safe and closed."""
    _send(json.dumps({"stall_s": None}))


def beat() -> None:
    """There was progress.

    Raises
    ------
    Terminated
        When the supervisor is gone: nobody would make the bench safe.
    """
    _send("")


def _send(line: str) -> None:
    if _pipe is None:
        return
    try:
        os.write(_pipe, line.encode() + b"\n")
    except BrokenPipeError as error:
        raise Terminated from error


# The supervisor's side -----------------------------------------------------------------------------------------------


def wanted(argv: Sequence[str]) -> bool:
    """Whether this process should supervise the command line ``argv`` rather than run it."""
    return (
        can_supervise()
        and bool(argv)
        and (argv[0] in COMMANDS or list(argv[:2]) == RESUME or _opens_bench(argv))
        and list(argv[:2]) != ["calibrate", "status"]
        and not {"-h", "--help"} & set(argv)
        and WORKER not in os.environ
        and os.environ.get(OFF) != "1"
    )


def _opens_bench(argv: Sequence[str]) -> bool:
    return any(word.partition("=")[0] == BENCH_OPTION for word in argv)


def supervise(argv: Sequence[str]) -> int:
    """Run ``argv`` in a worker and return its exit code.

    Where the worker stalled or died: that of a fault if it had opened a run, which is sealed so, and 1 otherwise.
    """
    reader, writer = os.pipe()
    as_json = "--json" in argv
    with tempfile.TemporaryFile() as dump, tempfile.TemporaryFile() as document:
        worker = subprocess.Popen(
            python("labctl", *argv),
            env={**os.environ, WORKER: f"{writer},{dump.fileno()}"},
            pass_fds=(writer, dump.fileno()),
            stdout=document if as_json else None,  # held back: a worker that is ended for a stall may say another
        )
        os.close(writer)
        with _passing_on(worker):
            watched, stalled = _follow(reader)
            if watched is not None and stalled:
                _end(worker)
                return _clean_up(watched, f"no progress for {watched.stall_s:g} s", dump, as_json)
            code = worker.wait()
            on_bench = watched is not None and watched.stall_s is not None
            if code in _EXIT_CODES and not on_bench:
                _print(document)
                return code
            if watched is None:
                _aftermath("lost", str(-code), _death(code), *_json_option(as_json), limit_s=None)
                return 128 - code if -code in _STOPS else 1
            return _clean_up(watched, _death(code), dump, as_json)


def _follow(reader: int) -> tuple[Watch | None, bool]:
    """Read progress until the worker ends or stalls: what was watched then, and whether it stalled."""
    watched: Watch | None = None
    about: dict[str, Any] = {}
    rest = b""
    while True:
        allowed_s = watched.stall_s if watched else None
        started = time.monotonic()
        ready, _, _ = select.select([reader], [], [], allowed_s)
        if not ready:
            if allowed_s is not None and time.monotonic() - started > allowed_s + _OVERSLEPT_S:
                continue  # the computer slept, or Ctrl-Z stopped us both
            return watched, True
        data = os.read(reader, 65536)
        if not data:
            return watched, False
        *lines, rest = (rest + data).split(b"\n")
        for line in filter(None, lines):
            about |= json.loads(line)
            watched = Watch(Path(about["run"]), about["stall_s"])


def _end(worker: subprocess.Popen[bytes]) -> None:
    """Thread dump, SIGTERM, and SIGKILL where that does not help. (Inside the kernel a process survives even that.)"""
    worker.send_signal(signal.SIGUSR1)
    time.sleep(_DUMP_S)
    worker.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        worker.wait(GRACE_S)
    worker.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        worker.wait(GRACE_S)


def _clean_up(watched: Watch, reason: str, dump: BinaryIO, as_json: bool) -> int:
    """Bench safe if it was in use, and run sealed, each by a fresh process."""
    run = watched.run
    dump.seek(0)
    threads = dump.read()
    if threads:
        with contextlib.suppress(OSError):
            (run / THREADS).write_bytes(threads)
    devices = "closed"  # and perhaps in use by somebody else by now
    if watched.stall_s is not None:
        devices = "safe" if _aftermath("safe", str(run), limit_s=SAFE_STATE_S) == 0 else "unknown"
    code = _aftermath("seal", str(run), reason, devices, *_json_option(as_json), limit_s=None)
    return code if code in _EXIT_CODES else FAULT


def _json_option(as_json: bool) -> list[str]:
    return ["--json"] if as_json else []


def _aftermath(*arguments: str, limit_s: float | None) -> int:
    try:
        return subprocess.run(python("labctl.engine.aftermath", *arguments), timeout=limit_s, check=False).returncode
    except subprocess.TimeoutExpired:
        return 1


def _print(document: BinaryIO) -> None:
    document.seek(0)
    text = document.read().decode(errors="replace")
    if text:
        write_line(text.removesuffix("\n"), sys.stdout)


def python(module: str, *arguments: str) -> list[str]:
    """A module in a fresh interpreter; the current folder is on its path only if it is on ours."""
    here = sys.path[0] in ("", str(Path.cwd()))
    return [sys.executable, *([] if here else ["-P"]), "-m", module, *arguments]


@contextlib.contextmanager
def _passing_on(worker: subprocess.Popen[bytes]) -> Iterator[None]:
    """Outlive stop signals and hand them on; the worker takes two of them at once (see `labctl.osal.Stops`) for one."""

    def hand_on(number: int, frame: FrameType | None) -> None:
        worker.send_signal(number)

    before = {number: signal.signal(number, hand_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _death(code: int) -> str:
    return f"the worker {ending(code)}"


def ending(code: int) -> str:
    """How a process ended that should not have, by what its parent sees."""
    if code >= 0:
        return f"ended with exit code {code}"
    with contextlib.suppress(ValueError):
        return f"died of {signal.Signals(-code).name}"
    return f"died of signal {-code}"
