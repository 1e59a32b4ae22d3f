"""What instruments are connected by: serial ports, USB 3 and Ethernet, as Linux has them set."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from labctl.doctor.check import Finding, State, Surroundings

USB_MB = 1000
"""Buffers of USB devices together that camera makers ask for [MB]; Linux allows 16."""
SOCKET_BYTES = 10_000_000
"""Receive buffer that GigE Vision libraries ask for [B]."""
JUMBO_BYTES = 8000
_PORTS = "ttyUSB*", "ttyACM*", "ttyS*"
_USB_WORDS = "usb3", "basler", "gentl", "micromanager", "slmsuite", "pylablib"
_GIGE_WORDS = "gige", "basler", "gentl", "micromanager", "slmsuite", "pylablib"
_ETHERNET = "1"


def serial_ports(around: Surroundings) -> Iterator[Finding]:
    """This user may open the serial ports."""
    if sys.platform != "linux":
        return
    ports = sorted(port for pattern in _PORTS for port in (around.root / "dev").glob(pattern))
    closed = [port for port in ports if not os.access(port, os.R_OK | os.W_OK)]
    pluggable = [port for port in closed if not port.name.startswith("ttyS")]
    matters = pluggable or (closed if _named(around, ("serial", "scpi"), "source", "monitor", "interlock") else [])
    if matters:
        names = ", ".join(str(port) for port in matters[:4]) + (", …" if len(matters) > 4 else "")
        group = _group(matters[0])
        yield Finding(
            State.WARN,
            f"you may not open {names}",
            f"sudo usermod -aG {group} $USER, then log in again",
        )
    else:
        yield Finding(State.PASS, f"{len(ports) - len(closed)} can be opened" if ports else "there are none")


def usb_memory(around: Surroundings) -> Iterator[Finding]:
    """USB 3 cameras have enough memory for their frames."""
    text = around.read("sys/module/usbcore/parameters/usbfs_memory_mb")
    if text is None or not text.isdigit():
        return
    limit = int(text)
    cameras = _named(around, _USB_WORDS, "camera")
    if limit == 0 or limit >= USB_MB:
        yield Finding(State.PASS, f"{limit or 'unlimited'} MB".replace("unlimited MB", "unlimited"))
    elif cameras:
        yield Finding(
            State.WARN,
            f"{limit} MB for all USB devices; {', '.join(cameras)} on USB 3 would lose frames",
            f"echo {USB_MB} | sudo tee /sys/module/usbcore/parameters/usbfs_memory_mb",
        )
    else:
        yield Finding(State.PASS, f"{limit} MB; a USB 3 camera would want {USB_MB}")


def ethernet(around: Surroundings) -> Iterator[Finding]:
    """GigE cameras can send frames without loss: large receive buffers, large packets."""
    text = around.read("proc/sys/net/core/rmem_max")
    if text is None or not text.isdigit():
        return
    cameras = ", ".join(_named(around, _GIGE_WORDS, "camera"))
    buffer = int(text)
    if not cameras:
        yield Finding(State.PASS, f"receive buffer {buffer / 1e6:.1f} MB; a GigE camera would want 10")
        return
    if buffer < SOCKET_BYTES:
        yield Finding(
            State.WARN,
            f"receive buffer {buffer / 1e6:.1f} MB; {cameras} on GigE would lose frames",
            f"sudo sysctl -w net.core.rmem_max={SOCKET_BYTES}",
        )
    else:
        yield Finding(State.PASS, f"receive buffer {buffer / 1e6:.1f} MB")
    small = [f"{port.name} ({mtu})" for port, mtu in _ports(around) if mtu < JUMBO_BYTES]
    if small:
        first = small[0].partition(" ")[0]
        yield Finding(
            State.WARN,
            f"small packets on {', '.join(small)}: {cameras} on GigE there would cost much computing time",
            f"sudo ip link set {first} mtu 9000, if that is the camera's port",
        )


def _ports(around: Surroundings) -> list[tuple[Path, int]]:
    """Wired ports that are up, with the size of their packets [B]."""
    found = []
    for port in sorted((around.root / "sys/class/net").glob("*")):
        below = port.relative_to(around.root)
        kind, up, mtu = (around.read(str(below / name)) for name in ("type", "operstate", "mtu"))
        wired = kind == _ETHERNET and (port / "device").exists() and not (port / "wireless").exists()
        if wired and up == "up" and mtu is not None and mtu.isdigit():
            found.append((port, int(mtu)))
    return found


def _named(around: Surroundings, words: tuple[str, ...], *roles: str) -> list[str]:
    """Devices of the station whose backend has one of these words in its name."""
    return [name for name, backend in around.backends(*roles).items() if any(word in backend for word in words)]


def _group(port: Path) -> str:
    """The group that may open a port."""
    if sys.platform == "win32":
        return ""
    import grp

    try:
        return grp.getgrgid(port.stat().st_gid).gr_name
    except (KeyError, OSError):
        return "dialout"
