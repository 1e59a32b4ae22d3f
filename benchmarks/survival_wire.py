"""The mock bench behind real protocols, with one fault on the wire: for part ``twenty`` of `survival.py`.

As a program it is ``labctl mock serve`` of which one server misbehaves once a file appears::

    python benchmarks/survival_wire.py FAULT FOLDER mock serve --bench station.toml ...

FOLDER holds ``now``, which the benchmark writes when the fault is to happen, and afterwards ``told.json``: what the
servers have seen.
"""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from labctl.__main__ import main
from mock_hardware.served import gvcp, gvsp, scpi_meter, serial_laser, server

START_S, END_S = 60.0, 20.0
SHARE_LOST = 0.02
"""Of the packets of an image."""
LOST_IMAGES, LOST_SPACING = 10, 31
"""One that comes while nobody waits for it, or first while a panel settles, costs nothing: of ten some are missed, and
so far apart that the next attempt finds none."""
LATE_S = 1.0
"""By which one image comes late: less than the suite waits for it."""
ANSWERS_LOST = 2
"""One after the other: fewer than a host asks for again."""
STALE_IMAGES = 3
"""In a row, so that one of them is a settled frame as a rule."""
UNPLUGGED_S = 4.0
FOR_GOOD_S = 1e9


@dataclass
class Told:
    """What the servers have seen, for the benchmark.

    Attributes
    ----------
    images, resends
        How many were sent, and how many packets were asked for again.
    fired
        Image before which the fault came; −1 where it did not come.
    touched
        Images, packets, answers or connections that the fault has spoilt.
    is_dark
        Whether the light was off when the servers ended.
    """

    images: int = 0
    resends: int = 0
    fired: int = -1
    touched: int = 0
    is_dark: bool = False


class Wire:
    """What lies between the served bench and its host.

    Parameters
    ----------
    kind
        The fault.
    folder
        Where the benchmark says when.
    """

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind, self.folder, self.told = kind, folder, Told()
        self._rng = random.Random(20)
        self._last: gvsp.Image | None = None
        self._dead_until_s, self._answers = 0.0, 0
        self._ends: dict[str, Callable[[], None]] = {}
        self._lock = threading.Lock()

    @property
    def is_cut(self) -> bool:
        """Does nothing get through to the camera and back?"""
        return time.monotonic() < self._dead_until_s

    def install(self) -> None:
        """Put it between the servers and the network."""
        send, put, answer = gvsp.StreamChannel.send, gvsp.StreamChannel._put, gvcp.ControlServer._answer
        resend = gvsp.StreamChannel.resend
        wire = self

        def sending(self: gvsp.StreamChannel, image: gvsp.Image) -> None:
            wire.send(lambda seen: send(self, seen), self, image)

        def putting(self: gvsp.StreamChannel, header: bytes, content: memoryview) -> None:
            if not wire.is_cut:
                put(self, header, content)

        def resending(self: gvsp.StreamChannel, block: int, first: int, last: int) -> None:
            wire.told.resends += last - first + 1
            resend(self, block, first, last)

        def answering(self: gvcp.ControlServer, packet: bytes, host: tuple[str, int], only_discovery: bool) -> Any:
            return wire.answer(lambda: answer(self, packet, host, only_discovery))

        gvsp.StreamChannel.send, gvsp.StreamChannel._put = sending, putting  # type: ignore[method-assign]
        gvsp.StreamChannel.resend, gvcp.ControlServer._answer = resending, answering  # type: ignore[method-assign]
        self._remember("meter", scpi_meter.MeterServer)
        self._remember("laser", serial_laser.SerialLaser)
        close = server.MockServer.close

        def closing(self: server.MockServer) -> None:
            wire.told.is_dark = not self.bench.is_lit
            close(self)

        server.MockServer.close = closing  # type: ignore[method-assign]

    def send(self, really: Callable[[gvsp.Image], None], stream: gvsp.StreamChannel, image: gvsp.Image) -> None:
        """One image, or what the fault makes of it."""
        told, since = self.told, self._since()
        told.images += 1
        match self.kind:
            case "lost packets" if since >= 0:
                packets = range(gvsp._packets(image, stream.packet_size - gvsp.HEADERS))
                lost = {(image.block, packet) for packet in packets if self._rng.random() < SHARE_LOST}
                stream.lose |= lost
                told.touched += len(lost)
                really(image)
            case "lost images" if 0 <= since < LOST_SPACING * LOST_IMAGES and since % LOST_SPACING == 0:
                told.touched += 1
            case "packets twice" if since >= 0:
                told.touched += 1
                really(image)
                really(image)
            case "late image" if since == 0:
                told.touched += 1
                time.sleep(LATE_S)
                really(image)
            case "stale images" if 0 <= since < STALE_IMAGES and self._is_like(image):
                assert self._last is not None
                told.touched += 1
                really(replace(image, pixels=self._last.pixels))
            case _:
                self._last = image
                really(image)

    def answer(self, really: Callable[[], bytes | None]) -> bytes | None:
        """An acknowledgement of the camera, or none."""
        if self.is_cut:
            return None
        found = really()
        if found is not None and self.kind == "lost answers" and self.told.fired >= 0 and self._answers < ANSWERS_LOST:
            self._answers += 1
            self.told.touched += 1
            return None
        return found

    def write(self) -> None:
        """Tell the benchmark."""
        (self.folder / "told.json").write_text(json.dumps(asdict(self.told)))

    def _since(self) -> int:
        """Images since the fault began; −1 before it. At its beginning the instruments are pulled that it pulls."""
        if self.told.fired < 0:
            if not (self.folder / "now").exists():
                return -1
            self.told.fired = self.told.images
            self._pull()
        return self.told.images - self.told.fired

    def _pull(self) -> None:
        told = self.told
        cut_s = {"camera unplugged": UNPLUGGED_S, "camera gone": FOR_GOOD_S}.get(self.kind, 0.0)
        self._dead_until_s = time.monotonic() + cut_s
        told.touched += cut_s > 0
        if end := self._ends.get(self.kind):
            told.touched += 1
            end()

    def _is_like(self, image: gvsp.Image) -> bool:
        return self._last is not None and self._last.pixels.shape == image.pixels.shape

    def _remember(self, name: str, kind: Any) -> None:
        """Keep the server of this kind in sight, to pull its plug."""
        begin, wire = kind.__init__, self

        def beginning(self: Any, *arguments: Any, **named: Any) -> None:
            begin(self, *arguments, **named)
            wire._ends[f"{name} gone"] = self.close
            if name == "meter":
                wire._ends["meter hangs up"] = self.hang_up

        kind.__init__ = beginning


class Ends(NamedTuple):
    """Where laser and meter are reached: the same in every night, since other devices are calibrated anew."""

    laser: Path
    meter_port: int


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def served(fault: str, station: Path, folder: Path, ends: Ends) -> Iterator[Path]:
    """The bench of a station file, served by a process of its own; yields the station file of the other side."""
    other = folder / "served.toml"
    command = [sys.executable, __file__, fault, str(folder), "mock", "serve", "--bench", str(station)]
    command += ["--write-station", str(other), "--display-output", "DUMMY1", "--slm-output", "DUMMY2"]
    command += ["--laser-link", str(ends.laser), "--meter-port", str(ends.meter_port)]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=Path(__file__).parents[1])
        try:
            end_s = time.monotonic() + START_S
            while not other.exists() and process.poll() is None and time.monotonic() < end_s:
                time.sleep(0.1)
            if not other.exists():
                raise SystemExit(f"the served bench did not start: {(folder / 'server.log').read_text()}")
            yield other
        finally:
            process.terminate()
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(END_S)


def told(folder: Path) -> Told:
    """What the servers have seen; nothing where they were killed."""
    with suppress(OSError):
        return Told(**json.loads((folder / "told.json").read_text()))
    return Told()


if __name__ == "__main__":
    _wire = Wire(sys.argv[1], Path(sys.argv[2]))
    _wire.install()
    try:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        _code = main(sys.argv[3:])
    finally:
        _wire.write()
    sys.exit(_code)
