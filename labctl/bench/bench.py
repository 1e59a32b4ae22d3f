"""The instruments of a station, opened together and always left safe."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from drivers.errors import DeviceError
from drivers.protocols import Camera, Device, LightSource, Modulator, OpenContext
from drivers.registry import open_role
from labctl.station.model import Station

log = logging.getLogger("labctl.bench")

ROLES = "display", "slm", "camera", "source"


@dataclass(frozen=True)
class Bench:
    """Open instruments by role."""

    display: Modulator
    slm: Modulator
    camera: Camera
    source: LightSource

    @property
    def devices(self) -> tuple[Device, ...]:
        return self.display, self.slm, self.camera, self.source

    def snapshot(self) -> dict[str, Any]:
        """Identity and settings of every device, as read back now."""
        return {d.name: {"identity": vars(d.identify()), "settings": d.snapshot()} for d in self.devices}

    def safe_state(self) -> list[str]:
        """Light off first, then panels and camera, whatever fails on the way; returns what failed."""
        failed = []
        for device in reversed(self.devices):
            try:
                device.safe_state()
            except Exception as error:
                log.exception("%s did not reach its safe state", device.name)
                failed.append(f"{device.name}: {error}")
        return failed


@contextmanager
def open_bench(station: Station) -> Iterator[Bench]:
    """Open every device of a station; on leaving, for whatever reason, make all safe and close them.

    Raises
    ------
    DeviceError
        When one cannot be opened, is not what its role needs, or cannot be made safe.
    """
    context = OpenContext(bench={"mock": station.mock})
    with ExitStack() as stack:
        opened: dict[str, Any] = {}
        for role in ROLES:
            table = getattr(station.devices, role)
            opened[role] = stack.enter_context(open_role(table.backend, role, role, table.options, context))
        bench = Bench(**opened)
        try:
            yield bench
        finally:
            failed = bench.safe_state()
        if failed:
            raise DeviceError(
                "not every device reached its safe state",
                device=", ".join(failed),
                action="closing the bench",
                safe="unknown: check the bench in person, the light source first",
                hint="labctl devices list",
            )
