"""The monitors of this machine, by names that stay: where each one is, and what would change the pixels on their way.

A monitor is known by the name of its output (``"HDMI-1"``, as ``xrandr`` lists it) and, where the panel says so in its
EDID, by model and serial number; never by a number, since numbers change when a cable does.

X sessions are asked by ``xrandr``. Everything that depends on the operating system is in `monitors`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from drivers.errors import DeviceTimeout, NotConnected

LISTING_S = 5.0
"""In which the X server must have named its monitors [s]."""

_IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
_CTM_IDENTITY = tuple(1 if i in (1, 9, 17) else 0 for i in range(18))  # 32.32 fixed point, low words first
_HEAD = re.compile(
    r"^(?P<name>\S+) (?P<plugged>connected|disconnected|unknown connection)(?P<primary> primary)?"
    r"(?: (?P<width>\d+)x(?P<height>\d+)\+(?P<x>-?\d+)\+(?P<y>-?\d+) \(0x[0-9a-f]+\) (?P<turn>[^(]*)\()?(?P<rest>.*)$"
)
_MODE = re.compile(r"^  (?P<size>\d+x\d+\S*) \(0x[0-9a-f]+\) +(?P<clock>[\d.]+)MHz(?P<flags>.*)$")


@dataclass(frozen=True)
class Problem:
    """Something that changes pixels between a program and the panel, or shows them elsewhere too.

    Attributes
    ----------
    what
        In words: ``"the picture is scaled by 2 × 2"``.
    hint
        What to do about it.
    """

    what: str
    hint: str


@dataclass(frozen=True)
class Edid:
    """What a panel says that it is; empty where it does not.

    Attributes
    ----------
    vendor
        Three letters: ``"HOL"``.
    model
        Name of the monitor.
    serial
        The one in words where there is one, else the number.
    native
        (columns, rows) of the panel, from the first of its timings [px].
    """

    vendor: str = ""
    model: str = ""
    serial: str = ""
    native: tuple[int, int] | None = None


@dataclass(frozen=True)
class Monitor:
    """One monitor that is switched on.

    Attributes
    ----------
    name
        Of the output that it hangs on: ``"HDMI-1"``.
    x, y, width, height
        Its part of the desktop: left column, top row, size [px]. Screenshots use the same coordinates.
    refresh_hz
        From the pixel clock of its mode, not rounded: 59.94, not 60 [Hz].
    primary
        Whether the desktop calls it the primary one.
    edid
        What the panel says that it is.
    problems
        What would change the pixels, found in the settings alone; a read-back finds more.
    """

    name: str
    x: int
    y: int
    width: int
    height: int
    refresh_hz: float
    primary: bool = False
    edid: Edid = field(default_factory=Edid)
    problems: tuple[Problem, ...] = ()

    @property
    def rectangle(self) -> dict[str, int]:
        """Its part of the desktop, as ``mss`` takes it."""
        return {"left": self.x, "top": self.y, "width": self.width, "height": self.height}


def monitor(name: str, timeout_s: float = LISTING_S) -> Monitor:
    """The monitor on the output of this name.

    Raises
    ------
    NotConnected
        When there is none, or the session cannot be asked: the names that there are.
    """
    found = monitors(timeout_s)
    for one in found:
        if one.name == name:
            return one
    raise NotConnected(
        f"no monitor is switched on at output {name!r}",
        device=name,
        action="look for the monitor",
        expected=name,
        seen=", ".join(f"{one.name} {one.edid.model}".strip() for one in found) or "no monitor",
        hint="plug it in and switch it on in the display settings (xrandr --output NAME --auto), or correct the name",
    )


def monitors(timeout_s: float = LISTING_S) -> tuple[Monitor, ...]:
    """All monitors that are switched on, left to right.

    Raises
    ------
    NotConnected
        Where there is no X session that this program may use, and why.
    DeviceTimeout
        When the X server does not answer.
    """
    _check_session()
    command = ["xrandr", "--current", "--verbose"]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        raise _no_session("the program xrandr is not installed", "apt-get install x11-xserver-utils") from None
    except subprocess.TimeoutExpired:
        raise _late(timeout_s, "list the monitors") from None
    if done.returncode:
        said = done.stderr.strip()
        raise _no_session(
            f"xrandr: {said}", "is DISPLAY the session at the bench? export DISPLAY=:0, and xhost +local:"
        )
    return parse_xrandr(done.stdout)


def parse_xrandr(text: str) -> tuple[Monitor, ...]:
    """What ``xrandr --current --verbose`` says, left to right; what is plugged in and switched off is left out."""
    blocks = [block for block in re.split(r"\n(?=\S)", text) if _on(block)]
    areas = dict(map(_area, blocks))
    found = [_monitor(block, areas) for block in blocks]
    return tuple(sorted(found, key=lambda one: (one.x, one.y, one.name)))


def read_edid(data: bytes) -> Edid:
    """What an EDID block tells of its panel; VESA E-EDID 1.4, sections 3.4 and 3.10."""
    if len(data) < 128 or data[:8] != b"\x00\xff\xff\xff\xff\xff\xff\x00":
        return Edid()
    letters = int.from_bytes(data[8:10], "big")
    vendor = "".join(chr(64 + (letters >> shift & 31)) for shift in (10, 5, 0))
    number = int.from_bytes(data[12:16], "little")
    words = {0xFC: "", 0xFF: str(number) if number else ""}
    native: tuple[int, int] | None = None
    for start in range(54, 126, 18):
        part = data[start : start + 18]
        if part[:3] == b"\0\0\0":
            words[part[3]] = part[5:].split(b"\n")[0].decode("ascii", "replace").strip()
        elif native is None and part[:2] != b"\0\0":
            native = part[2] | (part[4] & 0xF0) << 4, part[5] | (part[7] & 0xF0) << 4
    return Edid(vendor, words[0xFC], words[0xFF], native)


def power_saving(timeout_s: float = LISTING_S) -> Problem | None:
    """Whether the X server switches its monitors off after a while (DPMS): no program is told when it does.

    Raises
    ------
    DeviceTimeout
        When the X server does not answer.
    """
    try:
        done = subprocess.run(
            ["xset", "q"], capture_output=True, text=True, timeout=timeout_s, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError:
        return None
    except subprocess.TimeoutExpired:
        raise _late(timeout_s, "ask for power saving") from None
    return parse_xset(done.stdout)


def parse_xset(text: str) -> Problem | None:
    """What ``xset q`` says of power saving."""
    after_s = [int(value) for value in re.findall(r"(?:Standby|Suspend|Off): +(\d+)", text) if int(value)]
    if "DPMS is Enabled" not in text or not after_s:
        return None
    return Problem(f"the monitors are switched off after {min(after_s)} s without a key press (DPMS)", "xset -dpms")


def _check_session() -> None:
    if sys.platform in ("win32", "darwin"):
        raise _no_session(
            f"monitors cannot be listed on {sys.platform}",
            "show the frames from a Linux machine with an X session, or by the backend slmsuite.slm",
        )
    kind = os.environ.get("XDG_SESSION_TYPE", "")
    if kind == "wayland" or (os.environ.get("WAYLAND_DISPLAY") and kind != "x11"):
        raise _no_session(
            "this is a Wayland session, where a program may not say where its window goes, nor read it back",
            "log out, and choose 'on Xorg' at the log-in",
        )
    if not os.environ.get("DISPLAY"):
        raise _no_session("there is no X session: DISPLAY is not set", "at the bench: export DISPLAY=:0")


def _no_session(what: str, hint: str) -> NotConnected:
    return NotConnected(what, device="monitors", action="list the monitors", expected="an X session", hint=hint)


def _late(timeout_s: float, action: str) -> DeviceTimeout:
    return DeviceTimeout(f"the X server did not answer within {timeout_s:.3g} s", device="monitors", action=action)


def _on(block: str) -> bool:
    head = _HEAD.match(block.splitlines()[0])
    return head is not None and head["width"] is not None


def _area(block: str) -> tuple[str, tuple[int, int, int, int]]:
    head = _HEAD.match(block.splitlines()[0])
    assert head is not None
    return head["name"], (int(head["x"]), int(head["y"]), int(head["width"]), int(head["height"]))


def _monitor(block: str, areas: dict[str, tuple[int, int, int, int]]) -> Monitor:
    lines = block.splitlines()
    head = _HEAD.match(lines[0])
    assert head is not None
    name, primary = head["name"], head["primary"] is not None
    x, y, width, height = areas[name]
    hexadecimal = re.search(r"^\tEDID: *\n((?:\t\t[0-9a-f]+\n?)+)", block, re.MULTILINE)
    edid = read_edid(bytes.fromhex("".join(hexadecimal[1].split())) if hexadecimal else b"")
    mode, refresh_hz, flags = _current_mode(lines)
    problems = [
        *_of_plug(name, head["plugged"]),
        *_of_mode(name, mode, edid.native, flags),
        *_of_geometry(name, (width, height), mode, head["turn"], head["rest"], block),
        *_of_neighbours(name, areas),
        *_of_properties(name, block),
    ]
    if name.startswith("XWAYLAND"):
        problems.append(Problem("the session is Wayland, behind an X server", "log out, and choose 'on Xorg'"))
    return Monitor(name, x, y, width, height, refresh_hz, primary, edid, tuple(problems))


def _current_mode(lines: Sequence[str]) -> tuple[tuple[int, int], float, str]:
    """(columns, rows) and refresh rate of the current mode, and its flags."""
    for at, line in enumerate(lines):
        mode = _MODE.match(line)
        if mode and "*current" in mode["flags"]:
            across, down = (
                {key: int(value) for key, value in re.findall(r"(width|height|total) +(\d+)", more)}
                for more in lines[at + 1 : at + 3]
            )
            rate = float(mode["clock"]) * 1e6 / (across["total"] * down["total"])
            rate *= 2.0 if "Interlace" in mode["flags"] else 0.5 if "DoubleScan" in mode["flags"] else 1.0
            return (across["width"], down["height"]), rate, mode["flags"]
    return (0, 0), 0.0, ""


def _of_plug(name: str, plugged: str) -> list[Problem]:
    if plugged == "connected":
        return []
    return [
        Problem("no panel answers at this output", f"plug it in and switch it on, then xrandr --output {name} --auto")
    ]


def _of_mode(name: str, mode: tuple[int, int], native: tuple[int, int] | None, flags: str) -> list[Problem]:
    found = []
    if native is not None and mode != native:
        found.append(
            Problem(
                f"the mode {_size(mode)} is not the panel's own {_size(native)}: the panel rescales every frame",
                f"xrandr --output {name} --mode {_size(native)}",
            )
        )
    for flag in ("Interlace", "DoubleScan"):
        if flag in flags:
            found.append(
                Problem(f"the mode is {flag}: lines are shown twice or late", f"xrandr --output {name} --auto")
            )
    return found


def _of_geometry(
    name: str, size: tuple[int, int], mode: tuple[int, int], turn: str, rest: str, block: str
) -> list[Problem]:
    found = []
    upright = f"xrandr --output {name} --rotate normal --reflect normal"
    if turn.strip() != "normal":
        found.append(Problem(f"the picture is turned or reflected: {turn.strip()}", upright))
    matrix = re.search(r"^\tTransform:((?:\s+-?[\d.]+){9})", block, re.MULTILINE)
    transform = tuple(map(float, matrix[1].split())) if matrix else _IDENTITY
    if transform != _IDENTITY or ("panning" not in rest and turn.strip() == "normal" and size != mode):
        found.append(
            Problem(
                f"the desktop is scaled: {_size(size)} of it on {_size(mode)} pixels",
                f"set the scale of this monitor to 100 %: xrandr --output {name} --scale 1x1 --transform none",
            )
        )
    if "panning" in rest:
        found.append(Problem("the picture pans", f"xrandr --output {name} --panning 0x0"))
    return found


def _of_neighbours(name: str, areas: dict[str, tuple[int, int, int, int]]) -> list[Problem]:
    x, y, width, height = areas[name]
    over = [
        other
        for other, (left, top, columns, rows) in areas.items()
        if other != name and left < x + width and x < left + columns and top < y + height and y < top + rows
    ]
    return [
        Problem(
            f"it shows a part of what {other} shows (mirrored)",
            f"join the displays in the settings, do not mirror them: xrandr --output {name} --right-of {other}",
        )
        for other in over
    ]


def _of_properties(name: str, block: str) -> list[Problem]:
    """Settings of the graphics card that change levels after the frame was read back: no screenshot shows them."""
    properties = {
        key.strip(): value.strip() for key, value in re.findall(r"^\t([^\t:]+):([^\n]*)", block, re.MULTILINE)
    }
    found = []
    if properties.get("Broadcast RGB") in ("Automatic", "Limited 16:235"):
        found.append(
            Problem(
                f"Broadcast RGB is {properties['Broadcast RGB']}: levels may be squeezed into 16 … 235 on the cable",
                f'xrandr --output {name} --set "Broadcast RGB" "Full"',
            )
        )
    if properties.get("underscan", "off") not in ("off", "auto"):
        found.append(
            Problem("underscan shrinks the picture", f"xrandr --output {name} --set underscan off"),
        )
    matrix = re.search(r"^\tCTM:((?:\s+-?\d+){18})", block, re.MULTILINE)
    if matrix and any(map(int, matrix[1].split())) and tuple(map(int, matrix[1].split())) != _CTM_IDENTITY:
        found.append(
            Problem(
                "a colour matrix (CTM) mixes the channels: night light or a colour profile",
                f"switch night light and colour profiles off for {name}",
            )
        )
    return found


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
