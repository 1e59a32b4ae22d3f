"""A bench as devices of bluesky, held and open for as long as a block takes, and safe after it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from drivers.errors import DeviceTimeout
from drivers.protocols import Camera, Device
from labctl.bench.bench import Bench, open_bench
from labctl.console import Console
from labctl.doors.flying import Block
from labctl.doors.held import AnyStation, station_of
from labctl.doors.instruments import CameraReader, Hands, Level, Light, MonitorReader, Panel
from labctl.durations import in_words
from labctl.engine.holding import devices_in_use, holding
from labctl.lab import Lab

LIMIT_S = 10.0


class BlueskyBench:
    """The devices of an open bench, by bluesky's protocols.

    Attributes
    ----------
    slm, display
        Movable: to a pattern, by its number in a loaded list or in words.
    slm_level, display_level
        Movable: to one gray level all over the panel.
    light
        Movable: True or False; off at the end of every plan.
    camera
        Readable and triggerable; staged, it has light.
    monitors
        By name: readable and triggerable.
    block
        Flyable and collectable: prepared frames without a message between them.
    """

    def __init__(self, hands: Hands, frames: bool) -> None:
        self.slm, self.display = Panel(hands, "slm"), Panel(hands, "display")
        self.slm_level, self.display_level = Level(self.slm), Level(self.display)
        self.light = Light(hands)
        self.camera = CameraReader(hands, frames)
        self.monitors = {name: MonitorReader(hands, name) for name in hands.bench.monitors}
        self.block = Block(hands, self.slm, self.display, self.camera)

    def __repr__(self) -> str:
        names = ["slm", "display", "slm_level", "display_level", "light", "camera", *self.monitors, "block"]
        return f"<bench for bluesky: {', '.join(names)}>"


@contextmanager
def as_bluesky(station: AnyStation = None, *, frames: bool = False, limit_s: float = LIMIT_S) -> Iterator[BlueskyBench]:
    """Open a bench as devices of bluesky, for plans under its ``RunEngine``.

    The bench is held inside the block, its interlocks are asked before there is light and at every frame, and whatever
    ends the block, the bench is safe afterwards, the light first. A device that hangs fails its status.

    Parameters
    ----------
    station
        What `load_station` gives; the path of a station file; the name of one that is shipped; the mock bench if None.
    frames
        Whether events hold whole frames, and not their mean and maximum alone.
    limit_s
        After which a call to a device counts as hung, beyond the time that exposures take [s].

    Raises
    ------
    BenchBusy
        When another process holds the bench.
    DeviceError
        When a device does not open; on leaving, when one hangs or could not be made safe.

    Examples
    --------
    >>> import labctl
    >>> from bluesky import RunEngine, plans
    >>> RE, seen = RunEngine(), []
    >>> with labctl.as_bluesky() as bench:
    ...     _ = RE(plans.list_scan([bench.camera], bench.slm_level, [0, 255]), lambda name, doc: seen.append(name))
    >>> seen
    ['start', 'descriptor', 'event', 'event', 'stop']
    """
    described = station_of(station)
    lab, settings = Lab(Console(quiet=True)), described.acquisition
    with (
        holding(lab, described.bench.name, "labctl.as_bluesky"),
        devices_in_use(lab, described) as require_held,
        open_bench(described) as opened,
    ):
        opened.camera.exposure_s = settings.exposure_s
        _read_one(opened.camera, limit_s)
        hands = Hands(opened, settings, limit_s, require_held)
        made = BlueskyBench(hands, frames)
        try:
            yield made
        finally:
            made.block.end()
            hands.end()
            _give_up(opened, hands)


def _read_one(camera: Camera, limit_s: float) -> None:
    """Before any limit is watched: the first frame of the mock bench compiles its loops, which takes seconds."""
    camera.arm(1, 0)
    camera.fetch(limit_s + 2 * camera.frame_period_s)


def _give_up(opened: Bench, hands: Hands) -> None:
    """Leave devices that hang alone: they are not made safe, which is said and marked, and the others are."""
    for name in hands.hung:
        opened.devices[name] = cast(Device, _Hung(name, hands.limit_s))


class _Hung:
    """In the place of a device that does not come back: nobody waits for it again."""

    def __init__(self, name: str, limit_s: float) -> None:
        self.name, self._limit_s = name, limit_s

    def safe_state(self, timeout_s: float = 5.0) -> None:
        """Nothing can be asked of it.

        Raises
        ------
        DeviceTimeout
            Always.
        """
        raise DeviceTimeout("it hangs", device=self.name, seen=f"no answer within {in_words(self._limit_s)}")

    def close(self) -> None:
        """It stays as it is."""
