"""Watch the bench commands from a process of their own: a worker that makes no progress is ended, the bench made safe.

The parent imports nothing that is slow to import. It takes the lock of the bench, where the command line says which one
that is (`labctl.engine.early`), runs the same command line again as a worker, in a process group of its own, and waits.
The two speak over a pair of sockets, one line at a time. The worker sends an empty line for each settled frame and
finished node, and one with JSON for what changes: the lock of the bench (with its descriptor, so that the lock outlives
the worker), the run, devices in use and for how long a silence may last then, a deadline. No timer reports: a worker
that lives and does nothing is silent. A guardian watches both (`labctl.engine.guardian`).
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import BinaryIO

from labctl.engine import early, remains, systemd
from labctl.engine.follow import BEGIN_S, HEED_S, QUIET_S, End, Follower, State
from labctl.engine.fresh import python, stops_blocked, unblock_stops
from labctl.engine.guard import Guard
from labctl.errors import BenchBusy
from labctl.locks import BenchFiles, KernelLock
from labctl.osal import can_supervise, is_attended, leave_terminal, stops, write_line
from labctl.verdicts import VERDICTS, verdict_of

COMMANDS = frozenset({"demo", "measure", "calibrate", "align"})
TWO_WORDS = frozenset({("run", "resume"), ("nightly", "run"), *(("devices", w) for w in ("live", "show", "test"))})
NIGHT = ("nightly", "run")  # goes on when its terminal is closed
BENCH_OPTION = "--on-bench"  # makes any other command one that opens devices
WORKER = "LABCTL_WORKER"
OFF = "LABCTL_NO_SUPERVISOR"
FAULT = 20
GRACE_S = 2.0
AFTERWARDS_S = 60.0
THREADS = "threads.txt"
_DUMP_S = 0.5
_EXIT_CODES = frozenset(code for row in VERDICTS for code in row.exit_codes)
_STOPS = frozenset({signal.SIGINT, signal.SIGTERM})


# The worker's side ---------------------------------------------------------------------------------------------------

_line: socket.socket | None = None
_to_guardian = -1
_sending = threading.RLock()
_held: set[str] = set()


class Keeper:
    """The supervisor, as the one who keeps the lock of the bench."""

    @property
    def process(self) -> int:
        """Its number."""
        return os.getppid()

    def has(self, bench: str) -> bool:
        """Whether it has taken the lock before this process began."""
        return bench in _held

    def entrust(self, bench: str, lock: KernelLock) -> None:
        """It holds the lock from now on, alone: killed, it lets go, whatever becomes of this process."""
        _send({"lock": bench}, [lock.descriptor])
        lock.release()

    def waits(self) -> None:
        """The bench is waited for, on purpose."""
        beat()

    def give_back(self, bench: str) -> None:
        """It lets go of the lock."""
        _held.discard(bench)
        _send({"unlock": bench})


def enlist() -> None:
    """In a worker: take over the line, dump all threads when asked for that, and stop when the supervisor is gone."""
    global _line, _to_guardian
    about, held = os.environ.pop(WORKER, ""), os.environ.pop(early.HELD, "")
    if not about:
        return
    _held.update({held} - {""})
    line, _to_guardian, dump = (int(number) for number in about.split(","))
    for descriptor in (line, _to_guardian, dump):
        os.set_inheritable(descriptor, False)
    _line = socket.socket(fileno=line)
    faulthandler.register(signal.SIGUSR1, file=dump, all_threads=True)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    for number in _STOPS - {n for n in _STOPS if signal.getsignal(n) is signal.SIG_IGN}:
        signal.signal(number, lambda number, frame: None)  # before and after the command there is nothing to stop
    signal.signal(signal.SIGHUP, lambda number, frame: leave_terminal())
    signal.signal(signal.SIGQUIT, lambda number, frame: signal.raise_signal(signal.SIGTERM))
    threading.Thread(target=_stop_with, args=(_line,), daemon=True, name="supervisor").start()


def _stop_with(line: socket.socket) -> None:
    """Wait until the other side is gone, and stop: the bench is closed by ``finally`` blocks, as after any stop.

    All that it ever says is why it ends us; its signal comes then.
    """
    with contextlib.suppress(OSError):
        while words := line.recv(4096):
            stops.at_once(words.decode())
    stops.at_once(stops.because)
    os.kill(os.getpid(), signal.SIGTERM)


def is_worker() -> bool:
    """Whether a supervisor watches this process."""
    return _line is not None


def keeper() -> Keeper | None:
    """Who keeps the lock of a bench for this process; None for the process itself."""
    return Keeper() if is_worker() else None


def ready() -> None:
    """Stop signals do from now on what they should."""
    if is_worker():
        unblock_stops()
    _send({"ready": True})


def opened(run: Path) -> None:
    """There is a run, which somebody must seal; no device is in use yet."""
    _send({"run": str(run.absolute()), "in_use": False, "stall_s": None})


def watch(run: Path | None, stall_s: float | None) -> None:
    """Devices are in use from now on: silence for ``stall_s`` seconds is a stall; None allows any."""
    _send({"run": str(run.absolute()) if run else None, "in_use": True, "stall_s": stall_s})


def unwatch() -> None:
    """The devices are safe and closed."""
    _send({"in_use": False, "stall_s": None})


def deadline(seconds: float | None) -> None:
    """The command ends within so many seconds from now, or it is ended; None lifts the deadline."""
    _send({"deadline_s": seconds})


def afterwards(module: str, *arguments: str) -> None:
    """A module to run, in a fresh process, when the command has ended in whatever way.

    Its first arguments are the exit code of the command and the folder of its run, empty where there is none.
    """
    _send({"afterwards": [module, *arguments]})


def keep(lock: KernelLock) -> None:
    """A lock to be held until that module has ended: by the supervisor, where there is one, and by it alone."""
    if is_worker():
        _send({"keep": True}, [lock.descriptor])
        lock.release()


def beat() -> None:
    """There was progress; where so many reports lie unread that another does not fit, it is dropped: they say the same.

    A supervisor that was stopped does not stop the worker while the light is on.
    """
    if _line is not None:
        with _sending, contextlib.suppress(OSError):
            _line.send(b"\n", socket.MSG_DONTWAIT)


def _send(change: dict[str, object], descriptors: Sequence[int] = ()) -> None:
    """Tell the supervisor what changes, and the guardian, too; where one is gone, the process is being stopped."""
    if _line is None:
        return
    data = json.dumps(change).encode() + b"\n"
    with _sending, contextlib.suppress(OSError):
        if descriptors:
            socket.send_fds(_line, [data], list(descriptors))
        else:
            _line.sendall(data)
    with contextlib.suppress(OSError):
        os.write(_to_guardian, data)


# The supervisor's side -----------------------------------------------------------------------------------------------


def wanted(argv: Sequence[str]) -> bool:
    """Whether this process should supervise the command line ``argv`` rather than run it."""
    return (
        can_supervise()
        and bool(argv)
        and (argv[0] in COMMANDS or tuple(argv[:2]) in TWO_WORDS or _opens_bench(argv))
        and list(argv[:2]) != ["calibrate", "status"]
        and not {"-h", "--help"} & set(argv)
        and WORKER not in os.environ
        and os.environ.get(OFF) != "1"
    )


def _opens_bench(argv: Sequence[str]) -> bool:
    return any(word.partition("=")[0] == BENCH_OPTION for word in argv)


def supervise(argv: Sequence[str]) -> int:
    """Run ``argv`` in a worker and return its exit code.

    Where the worker stalled or died: that of a fault if it had opened a run or devices, and 1 otherwise.
    """
    goes_on = tuple(argv[:2]) == NIGHT or not is_attended()
    with _PassingOn(goes_on) as signals:
        wish = early.wish_of(argv)
        try:
            held = early.hold(wish) if wish else None
        except BenchBusy as error:
            assert wish is not None
            return early.refused(wish, error)
        try:
            return _supervise(argv, held, signals)
        finally:
            if held:
                held.holder.cross_out()


def _supervise(argv: Sequence[str], held: early.Early | None, signals: _PassingOn) -> int:
    as_json = "--json" in argv
    ours, theirs = socket.socketpair()
    heard, told = os.pipe()
    with tempfile.TemporaryFile() as dump, tempfile.TemporaryFile() as document:
        given = {WORKER: f"{theirs.fileno()},{told},{dump.fileno()}", early.HELD: held.holder.bench if held else ""}
        with stops_blocked():  # until it handles them
            worker = subprocess.Popen(
                python("labctl", *argv),
                env={**os.environ, **given},
                pass_fds=(theirs.fileno(), told, dump.fileno()),
                process_group=0,
                stdout=document if as_json else None,  # held back: a worker that is ended for a stall may say another
            )
        theirs.close()
        os.close(told)
        signals.worker = worker
        quiet_s = None if _opens_bench(argv) else QUIET_S  # such a command may train for hours before
        follower = Follower(ours, worker.pid, signals.deliver, lambda: signals.insisted_s, quiet_s)
        if held:
            follower.state.locks[held.holder.bench] = held.lock.descriptor
        with Guard(python("labctl.engine.guardian"), worker.pid, heard, follower.state.known()) as guard:
            systemd.notify("READY=1")
            end = follower.follow(lambda state: guard.check(state.known()))
            systemd.notify("STOPPING=1")
            try:
                code = _ended(worker, end, follower, dump, document, as_json)
            finally:
                follower.state.let_go()
        _afterwards(follower.state, code)
        return code


def _afterwards(state: State, code: int) -> None:
    """What the worker has asked for, for a limited time; it changes neither the exit code nor the one document."""
    if not state.afterwards:
        return
    module, *arguments = state.afterwards
    with contextlib.suppress(OSError):
        process = subprocess.Popen(
            python(module, str(code), state.run or "", *arguments),
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),
            process_group=0,
            pass_fds=tuple(state.kept),
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(AFTERWARDS_S)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def _ended(
    worker: subprocess.Popen[bytes], end: End, follower: Follower, dump: BinaryIO, document: BinaryIO, as_json: bool
) -> int:
    """What there is to do after a worker; returns the exit code."""
    state = follower.state
    if end is not End.GONE:
        late = f"the deadline passed {state.late_s:.0f} s ago" if end is End.LATE else ""
        deaf = f"it did not stop within {HEED_S:g} s" if state.is_ready else f"it did not begin within {BEGIN_S:g} s"
        quiet = f"it got to no run and no device within {QUIET_S:g} s"
        stalled = quiet if end is End.QUIET else f"no progress for {state.stall_s or 0:g} s"
        reason = late or (deaf if end is End.DEAF else stalled)
        follower.tell(reason)
        _end(worker)
        return _clean_up(state, worker.pid, 0, reason, dump, as_json)
    code = worker.wait()
    is_silent = as_json and os.fstat(document.fileno()).st_size == 0
    if code in _EXIT_CODES and not state.in_use and not is_silent:
        _print(document)
        return code
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(worker.pid, signal.SIGKILL)
    return _clean_up(state, worker.pid, code, _death(code), dump, as_json)


def _end(worker: subprocess.Popen[bytes]) -> None:
    """Thread dump, stop, and SIGKILL where that does not help. (Inside the kernel a process survives even that.)"""
    with contextlib.suppress(ProcessLookupError):
        worker.send_signal(signal.SIGUSR1)
        try:
            worker.wait(_DUMP_S)
        except subprocess.TimeoutExpired:
            worker.send_signal(signal.SIGCONT)
            worker.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(GRACE_S)
        os.killpg(worker.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        worker.wait(GRACE_S)


def _clean_up(state: State, worker: int, code: int, reason: str, dump: BinaryIO, as_json: bool) -> int:
    """Bench safe, then free, and then the run sealed or the end of the command told, each by a fresh process.

    Nobody takes the run for one that nobody writes meanwhile, as its lock is taken before the bench is free.
    """
    devices = remains.made_safe(state.locks, worker)
    run_lock = remains.lock_run(state.run)
    if devices != remains.UNKNOWN and (state.run is None or run_lock):
        for bench in state.locks:
            BenchFiles(bench).note.unlink(missing_ok=True)
        state.let_go()
    if state.run is None:
        ended = _told(as_json, reason, lambda said: remains.tell_lost(-code, reason, devices, said))
        return 128 - code if -code in _STOPS and devices == remains.CLOSED else ended if ended in _EXIT_CODES else 1
    dump.seek(0)
    threads = dump.read()
    if threads and not (Path(state.run) / "SEAL").exists():
        with contextlib.suppress(OSError):
            (Path(state.run) / THREADS).write_bytes(threads)
    run = state.run
    sealed = _told(as_json, reason, lambda said: remains.seal(run, reason, devices, run_lock, said))
    if run_lock:
        run_lock.release()
    return sealed if sealed in _EXIT_CODES else FAULT


def _told(as_json: bool, reason: str, tell: Callable[[BinaryIO | None], int]) -> int:
    """Let a program tell how the command ended; where it says nothing, there is still one document."""
    if not as_json:
        return tell(None)
    with tempfile.TemporaryFile() as said:
        code = tell(said)
        if not said.tell():
            code = code if code in _EXIT_CODES - {0} else FAULT
            error = {"code": "E-STL-001", "message": reason, "safe": "unknown: labctl bench who"}
            document = {"verdict": verdict_of(code), "exit_code": code, "first_error": error}
            said.write(json.dumps(document, indent=2).encode())
        _print(said)
    return code


def _print(document: BinaryIO) -> None:
    document.seek(0)
    text = document.read().decode(errors="replace")
    if text:
        write_line(text.removesuffix("\n"), sys.stdout)


class _PassingOn:
    """Outlive signals and hand each on to the worker once: those that come too early when it is ready for them.

    Parameters
    ----------
    goes_on
        Whether the command outlives its terminal.

    Attributes
    ----------
    insisted_s
        When the second stop was asked for, by the monotonic clock; None before it.
    """

    def __init__(self, goes_on: bool) -> None:
        self.worker: subprocess.Popen[bytes] | None = None
        self.insisted_s: float | None = None
        self._goes_on, self._asked = goes_on, 0
        self._ready = False
        self._early: list[int] = []
        self._handled: list[signal.Signals] = []

    def __enter__(self) -> _PassingOn:
        handlers = {
            signal.SIGINT: self._hand_on,
            signal.SIGTERM: self._hand_on,
            signal.SIGHUP: self._hang_up,
            signal.SIGQUIT: lambda number, frame: self._hand_on(signal.SIGTERM, frame),
            signal.SIGTSTP: self._suspend,
        }
        ignored = [number for number in handlers if signal.getsignal(number) is signal.SIG_IGN]
        self._handled = [number for number in handlers if number not in ignored]
        for number in self._handled:
            signal.signal(number, handlers[number])
        return self

    def __exit__(self, *error: object) -> None:
        for number in self._handled:  # all is said: this process ends with the exit code that it has
            signal.signal(number, signal.SIG_IGN)

    def deliver(self) -> None:
        """The worker handles signals from now on."""
        self._ready = True
        while self._early:
            self._to_worker(self._early.pop(0))

    def _hand_on(self, number: int, frame: FrameType | None) -> None:
        self._asked += 1
        if self._asked == 2:
            self.insisted_s = time.monotonic()
        if self._ready:
            self._to_worker(number)
        else:
            self._early.append(number)

    def _hang_up(self, number: int, frame: FrameType | None) -> None:
        leave_terminal()
        self._to_worker(signal.SIGHUP)
        if not self._goes_on:
            self._hand_on(signal.SIGTERM, frame)

    def _suspend(self, number: int, frame: FrameType | None) -> None:
        """Ctrl-Z: stop the worker, then this process; afterwards both go on."""
        if self.worker is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.worker.pid, signal.SIGSTOP)
            os.kill(os.getpid(), signal.SIGSTOP)
            os.killpg(self.worker.pid, signal.SIGCONT)

    def _to_worker(self, number: int) -> None:
        if self.worker is not None and self.worker.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.worker.send_signal(number)


def _death(code: int) -> str:
    return f"the worker {ending(code)}"


def ending(code: int) -> str:
    """How a process ended that should not have, by what its parent sees."""
    if code >= 0:
        return f"ended with exit code {code}"
    with contextlib.suppress(ValueError):
        return f"died of {signal.Signals(-code).name}"
    return f"died of signal {-code}"
