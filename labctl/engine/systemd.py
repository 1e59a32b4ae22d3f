"""Tell systemd how a command does, where systemd has started it: the protocol of ``sd_notify``."""

from __future__ import annotations

import contextlib
import os
import socket

SOCKET = "NOTIFY_SOCKET"


def notify(words: str) -> None:
    """Send ``READY=1``, ``WATCHDOG=1`` or another of its words; whatever goes wrong is no matter of ours."""
    address = os.environ.get(SOCKET, "")
    if address[:1] not in ("/", "@"):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.setblocking(False)
        line.sendto(words.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)
