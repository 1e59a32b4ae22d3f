"""Does acquisition keep up with a 60 Hz camera at full HD, region sums and sealing included?

The real acquirer, its steps, region sums and sealed segments, on full-HD panels and a camera that is paced by the real
clock: it is triggered by software, exposes no more than 60 times a second, and hands out each frame one frame period
after its exposure began, not earlier. The exposures of one order (settling ones and kept ones, or those of a list)
follow each other by the camera's clock; the first begins when the order is given, and not before the last frame of the
order before was handed out. So whatever the host does between two orders is time in which nothing is exposed; nothing
hides it. Only the light is not computed (the mock's rendering is the
work of `mock_frame.py`): the camera copies frames that were made beforehand, of the whole region, as a driver does.

The device rate is 60 exposures a second; settling frames are exposures, too. A figure is device time over wall-clock
time, from the first frame of a run of scan blocks to the seal of the last: frame by frame, and by lists that the
display plays (`show_sequence`). On a machine that does other work besides, a thread that waits for a frame is woken
late; how late, summed over the run, is told beside it, and what the share is without that.

    python benchmarks/acquire.py [--json] [--quick]
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from _common import Figure, figure, parser, show
from numpy.typing import NDArray

from calibration.bench.regions import camera_regions
from calibration.frames.scan import Scan
from drivers import checks
from drivers.pixels import saturated_fraction
from drivers.protocols import FrameBlock, Identity, Levels, Roi, ShowReceipt, TriggerMode
from labctl.archive import RunWriter
from labctl.bench.acquirer import Acquirer
from labctl.bench.bench import open_bench
from labctl.bench.steps import Place, blocks
from labctl.nodes.registration import layout_of
from labctl.station.loading import find_station, load_station

GOAL = 0.95
FULL_HD = 1080, 1920
FPS = 60.0
SIZES = tuple(f"mock.{part}.{side}={size}" for part in ("slm", "display", "camera")
              for side, size in zip(("rows", "cols"), FULL_HD, strict=True))  # fmt: skip
LAYOUT = (
    "layout.pitch_rows_px=8", "layout.pitch_columns_px=14", "layout.active_rows_px=5", "layout.active_columns_px=8",
)  # fmt: skip
"""128 × 128 macropixels that fill the panel: 1024 of its rows, 1792 of its columns."""
POOL = 4


class PacedCamera:
    """A full-HD camera that takes as long as a real one.

    Parameters
    ----------
    name
        What the station calls it.
    exposure_s
        Of its frames [s].
    """

    shape = FULL_HD
    bit_depth = 12
    trigger_modes = (TriggerMode.SOFTWARE,)
    frame_period_s = 1 / FPS

    def __init__(self, name: str, exposure_s: float) -> None:
        self.name, self.exposure_s = name, exposure_s
        self.roi = Roi(0, 0, FULL_HD[1], FULL_HD[0])
        self._frames = np.random.default_rng(0).integers(100, 3000, (POOL, *FULL_HD), np.uint16)
        self._order = (0, 0, 0)  # frames, exposures before each but the first, exposures before the first
        self._number, self._free_s = 0, time.monotonic()
        self.exposures = 0
        self.late_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        pass

    def identify(self) -> Identity:
        return Identity("paced", "full HD", "60")

    def snapshot(self, timeout_s: float = 5.0) -> dict[str, Any]:
        return {}

    def safe_state(self, timeout_s: float = 5.0) -> None:
        pass

    def arm(self, n: int, skip: int = 0) -> None:
        self._order = n, 0, skip

    def arm_sequence(self, n: int, frames_each: int) -> None:
        self._order = n, frames_each - 1, frames_each - 1

    def stop(self, timeout_s: float = 2.0) -> None:
        pass

    def fetch(self, timeout_s: float) -> FrameBlock:
        """Expose as soon as the sensor is free, and copy each frame when it has been read out."""
        n, between, skip = self._order
        roi = self.roi
        frames = np.empty((n, roi.height, roi.width), np.uint16)
        sequence, at_s = np.empty(n, np.int64), np.empty(n)
        begins_s = max(time.monotonic(), self._free_s)
        for k in range(n):
            passed = between if k else skip
            begins_s, self._number = begins_s + passed * self.frame_period_s, self._number + passed
            pixels = self._frames[self._number % POOL, roi.y : roi.y + roi.height, roi.x : roi.x + roi.width]
            sequence[k], at_s[k] = self._number, begins_s
            begins_s, self._number = begins_s + self.frame_period_s, self._number + 1
            _sleep_until(begins_s)
            frames[k] = pixels
        self.late_s += time.monotonic() - begins_s
        self._free_s = begins_s
        self.exposures += n + skip + (n - 1) * between
        return FrameBlock(
            frames, sequence, sequence, at_s, np.full(n, time.time()), 0, saturated_fraction(frames, self.bit_depth)
        )


class PacedPanel:
    """A full-HD panel that takes what it is handed and copies it; it shows lists, as the mock's do.

    Parameters
    ----------
    name
        What the station calls it.
    """

    shape = FULL_HD
    levels = 256
    settle_s, refresh_hz, sequence_max = 0.03, FPS, 4096

    def __init__(self, name: str) -> None:
        self.name, self._shown = name, np.zeros(FULL_HD, np.uint8)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        pass

    def identify(self) -> Identity:
        return Identity("paced", "panel", "1")

    def snapshot(self, timeout_s: float = 5.0) -> dict[str, Any]:
        return {}

    def safe_state(self, timeout_s: float = 5.0) -> None:
        pass

    def show(self, levels: Levels, timeout_s: float = 2.0) -> ShowReceipt:
        self._shown = checks.levels_shown(self.name, levels, self.shape, self.levels).copy()
        return ShowReceipt(1, time.monotonic())

    def blank(self, timeout_s: float = 2.0) -> ShowReceipt:
        return self.show(np.zeros(FULL_HD, np.uint8))

    def show_sequence(self, levels: Sequence[Levels], frames_each: int, timeout_s: float = 10.0) -> ShowReceipt:
        checks.list_shown(self.name, levels, frames_each, self.sequence_max, self.shape, self.levels)
        return ShowReceipt(1, time.monotonic())


def _sleep_until(at_s: float) -> None:
    left_s = at_s - time.monotonic()
    if left_s > 0:
        time.sleep(left_s)


def measure(by_lists: bool, frames: int) -> list[Figure]:
    """Both figures of one way to show pictures."""
    ours = (*SIZES, *LAYOUT, f"acquisition.play_lists={'true' if by_lists else 'false'}")
    loaded = load_station(find_station(None), ours)
    station = loaded.station
    with (
        tempfile.TemporaryDirectory() as folder,
        RunWriter.create(Path(folder), "benchmark", loaded) as run,
        open_bench(station) as bench,
    ):
        camera = PacedCamera("camera", station.acquisition.exposure_s)
        for paced in (camera, PacedPanel("slm"), PacedPanel("display")):
            bench.devices[paced.name].close()
            bench.devices[paced.name] = paced
        acquirer = Acquirer(bench, run, station.acquisition)
        layout = layout_of(station, FULL_HD)
        place = Place(layout, camera_regions(layout, np.eye(3), FULL_HD), layout.display_index(FULL_HD, np.eye(3)))
        scan = _scan(layout.rows, layout.columns, frames)
        steps = list(blocks("probe", scan, np.zeros(len(scan), np.bool_), place, {}, 64))
        acquirer.take(steps[0])  # everything is imported and in the caches
        acquirer.device_s, camera.late_s, exposures = 0.0, 0.0, camera.exposures
        began_s, busy_s = time.perf_counter(), time.process_time()
        for step in steps[1:]:
            acquirer.take(step)
        wall_s, busy_s = time.perf_counter() - began_s, time.process_time() - busy_s
    exposures = camera.exposures - exposures
    how = "by lists (show_sequence)" if by_lists else "frame by frame"
    share = acquirer.device_s / wall_s
    return [
        figure(f"{how}: share of the device rate", share, "1", f"≥ {GOAL}", share >= GOAL),
        figure(f"{how}: exposures per second", exposures / wall_s, "1/s", f"of {FPS:g}"),
        figure(f"{how}: frames kept per second", sum(map(len, _scans(steps[1:]))) / wall_s, "1/s"),
        figure(f"{how}: woken late, share of the time", camera.late_s / wall_s, "1"),
        figure(f"{how}: share of the device rate without that", acquirer.device_s / (wall_s - camera.late_s), "1"),
        figure(f"{how}: processor time per exposure", 1e3 * busy_s / exposures, "ms", f"of {1e3 / FPS:.1f}"),
    ]


def _scan(rows: int, columns: int, frames: int) -> Scan:
    """Frames of random levels, each with another display, a new SLM pattern after every 64."""
    rng = np.random.default_rng(1)
    display: NDArray[np.uint8] = rng.integers(0, 256, (frames, columns), np.uint8)
    slm: NDArray[np.uint8] = rng.integers(0, 256, (frames // 64 + 1, rows, columns), np.uint8)
    return Scan(slm, np.arange(frames) // 64, display)


def _scans(steps: list[Any]) -> list[Scan]:
    return [step.scan for step in steps]


def main() -> None:
    options = parser(__doc__).parse_args()
    frames = 64 * (3 if options.quick else 9)
    show("acquire", lambda: [*measure(False, frames), *measure(True, frames)], options.json)


if __name__ == "__main__":
    main()
