"""The computer: Python and its packages, disk, clock, compiled loops, displays."""

from __future__ import annotations

import ctypes
import datetime as dt
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from labctl.clock import utc_now
from labctl.doctor.check import Finding, State, Surroundings
from labctl.osal import home_directory, state_directory

GB_FAIL, GB_WARN = 1.0, 20.0
"""A night at a full-HD camera writes some gigabytes; below the first nothing should be begun, unless a station says
how much is to stay free [GB]."""
_FSYNC_WARN_S = 0.25
REMOTE = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "9p", "afs", "davfs"}
_VOLATILE = {"tmpfs", "ramfs"}
_TIME_ERROR = 5
"""What the kernel answers where nothing keeps its clock right (``TIME_ERROR`` of ``adjtimex``)."""


def python(around: Surroundings) -> Iterator[Finding]:
    """The interpreter is one that labctl is made for."""
    version = platform.python_version()
    wanted = metadata.metadata("labctl")["Requires-Python"]
    if not SpecifierSet(wanted).contains(version, prereleases=True):
        yield Finding(State.FAIL, f"Python {version}; labctl needs {wanted}", "install a newer Python")
    elif sys.maxsize < 2**32:
        yield Finding(State.FAIL, f"Python {version} for 32 bits", "install Python for 64 bits")
    else:
        where = "" if sys.prefix != sys.base_prefix else ", not in an environment of its own"
        yield Finding(State.PASS, f"{platform.python_implementation()} {version} on {platform.platform()}{where}")


def packages(around: Surroundings) -> Iterator[Finding]:
    """Every package that labctl needs is installed in a version that it is tested with."""
    wrong = False
    needed = [Requirement(text) for text in metadata.requires("labctl") or ()]
    needed = [one for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})]
    for one in needed:
        installed = version_of(one.name)
        fix = f'python -m pip install "{one.name}{one.specifier}"'
        if installed is None:
            yield Finding(State.FAIL, f"{one.name} is not installed", fix)
        elif not one.specifier.contains(installed, prereleases=True):
            yield Finding(State.FAIL, f"{one.name} {installed}; labctl needs {one.name}{one.specifier}", fix)
        wrong |= installed is None or not one.specifier.contains(installed, prereleases=True)
    if not wrong:
        cap = next((str(one.specifier) for one in needed if one.name == "torch"), "")
        yield Finding(State.PASS, f"{len(needed)} as labctl needs them; torch {version_of('torch')} is within {cap}")


def version_of(package: str) -> str | None:
    """The version of an installed package; None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def disk(around: Surroundings) -> Iterator[Finding]:
    """There is room for runs, on a disk of this computer."""
    folder = existing(around.runs)
    free = shutil.disk_usage(folder).free / 1e9
    kind = filesystem(around, folder)
    shown = f"{free:.1f} GB" if free >= 1 else f"{1000 * free:.0f} MB"
    where = f"{shown} free for {around.runs} ({kind or 'file system not known'})"
    floor = around.station.station.acquisition.disk_floor_gb if around.station else GB_FAIL
    if free < floor:
        below = f": no run begins below acquisition.disk_floor_gb, {floor:g} GB" if around.station else ""
        yield Finding(State.FAIL, f"{where}{below}", "free some space, or use another disk: --runs FOLDER")
    elif free < GB_WARN:
        yield Finding(State.WARN, f"{where}; a night may need {GB_WARN:g} GB", "free some space")
    elif kind in REMOTE:
        yield Finding(State.WARN, f"{where}: over the network", "record on a local disk: --runs FOLDER; copy later")
    elif kind in _VOLATILE:
        yield Finding(State.WARN, f"{where}: in memory, gone at the next start", "another disk: --runs FOLDER")
    else:
        yield Finding(State.PASS, where)


def writing(around: Surroundings) -> Iterator[Finding]:
    """The runs and the state folder can be written, and what is synced comes to the disk in time."""
    for what, folder in (("runs", around.runs), ("state", state_directory())):
        place = existing(folder)
        try:
            with tempfile.TemporaryFile(dir=place) as file:
                file.write(b"labctl doctor")
                began_s = time.perf_counter()
                os.fsync(file.fileno())
                took_s = time.perf_counter() - began_s
        except OSError as error:
            said = error.strerror or str(error)
            yield Finding(State.FAIL, f"cannot write {what} into {place}: {said}", f"permissions: ls -ld {place}")
            continue
        detail = f"{what} into {place}, synced in {took_s * 1e3:.0f} ms"
        if took_s > _FSYNC_WARN_S:
            yield Finding(State.WARN, f"{detail}: each segment waits for that", "a faster disk: --runs FOLDER")
        else:
            yield Finding(State.PASS, detail)


def clock(around: Surroundings) -> Iterator[Finding]:
    """The clock is not absurd, and something keeps it right: runs, expiry and control charts go by it."""
    now = utc_now()
    built = dt.datetime.fromtimestamp(Path(__file__).stat().st_mtime, dt.UTC)
    fix = "set the clock: timedatectl set-ntp true" if sys.platform == "linux" else "let the system set its clock"
    if now < built - dt.timedelta(days=1):
        yield Finding(State.FAIL, f"{now:%Y-%m-%d %H:%M} UTC, before labctl was installed ({built:%Y-%m-%d})", fix)
    elif sys.platform == "linux" and _unsynchronised():
        yield Finding(State.WARN, f"{now:%Y-%m-%d %H:%M} UTC, and nothing keeps it right", fix)
    else:
        yield Finding(State.PASS, f"{now:%Y-%m-%d %H:%M} UTC")


def compiled(around: Surroundings) -> Iterator[Finding]:
    """The loops of the mock bench, once compiled, can be kept."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    found = importlib.util.find_spec("groundwork")
    beside = [Path(folder) for folder in (found.submodule_search_locations if found else None) or ()]
    user = Path(os.environ.get("XDG_CACHE_HOME") or (home_directory() or state_directory()) / ".cache")
    places = [Path(chosen)] if chosen else [*beside, user]
    for place in places:
        if os.access(existing(place), os.W_OK):
            yield Finding(State.PASS, f"numba keeps what it compiles below {place}")
            return
    tried = ", ".join(map(str, places))
    yield Finding(
        State.WARN,
        f"numba cannot keep what it compiles ({tried}): ten seconds at each start",
        "export NUMBA_CACHE_DIR=FOLDER, a folder that you may write",
    )


def display(around: Surroundings) -> Iterator[Finding]:
    """A panel that is shown full screen needs a session that allows that."""
    panels = [n for n, b in around.backends("slm", "display").items() if b == "screen" or b.startswith("slmsuite")]
    if sys.platform != "linux":
        return
    session = os.environ.get("XDG_SESSION_TYPE", "")
    wayland = session == "wayland" or bool(os.environ.get("WAYLAND_DISPLAY"))
    shown = os.environ.get("DISPLAY")
    if panels and not (shown or wayland):
        yield Finding(
            State.FAIL,
            f"no display here, and {', '.join(panels)} is shown full screen",
            "start labctl in the desktop session, or export DISPLAY=:0",
        )
    elif panels and wayland:
        yield Finding(
            State.WARN,
            f"a Wayland session: it may scale or move what {', '.join(panels)} shows",
            'log in again and choose "Xorg" at the gear wheel',
        )
    else:
        what = "Wayland" if wayland else f"X11 at {shown}" if shown else "none, so no panel can be shown full screen"
        yield Finding(State.PASS, what)


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def filesystem(around: Surroundings, folder: Path) -> str:
    """What Linux calls the file system that a folder lies on; empty elsewhere."""
    best, kind = -1, ""
    for line in (around.read("proc/self/mounts") or "").splitlines():
        _, mounted, name, *_ = line.split()
        mounted = mounted.replace("\\040", " ")
        if folder.resolve().is_relative_to(mounted) and len(mounted) > best:
            best, kind = len(mounted), name
    return kind


def _unsynchronised() -> bool:
    """Ask the Linux kernel whether its clock is kept right; ``modes`` 0 changes nothing (``adjtimex(2)``)."""
    try:
        answer = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))
    except (OSError, AttributeError):
        return False
    return bool(answer == _TIME_ERROR)
