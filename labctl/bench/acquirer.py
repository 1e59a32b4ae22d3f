"""Show and read: settled by counted frames, retried where the camera says so, sealed block by block."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.bench.regions import Regions
from calibration.frames.references import References
from calibration.frames.scan import Readings, Scan
from calibration.machine.layout import Layout, display_frame
from calibration.machine.lut import Levels
from drivers.errors import DeviceError, DroppedFrames, StaleFrames
from drivers.protocols import FrameBlock, Roi
from labctl.archive import RunWriter
from labctl.bench.bench import Bench
from labctl.engine import supervisor
from labctl.station.model import Acquisition

ATTEMPTS = 3
REST_FRAMES = 16
"""How long a panel rests before its step response is read."""

Advance = Callable[[int], None]


class Acquirer:
    """Frames and region sums from a bench into a run.

    Parameters
    ----------
    settings
        Settling, timeouts and block size.
    advance
        Called with the number of frames just recorded.
    retried
        Called with the number of frames that are about to be read again.

    Attributes
    ----------
    device_s
        Device time of the frames so far, settling included [s].
    """

    def __init__(self, bench: Bench, run: RunWriter, settings: Acquisition, advance: Advance, retried: Advance) -> None:
        self.bench, self.run, self.settings = bench, run, settings
        self.advance, self.retried = advance, retried
        self.references = References(settings.reference_spacing_frames, bench.levels)
        self._shown: dict[str, bytes] = {}
        self._owed = 0
        self._last_sequence = -1
        self.device_s = 0.0
        camera = bench.camera
        camera.exposure_s = settings.exposure_s
        self.exposure_s = camera.exposure_s

    @property
    def sensor(self) -> Roi:
        """The whole sensor."""
        rows, columns = self.bench.camera.shape
        return Roi(0, 0, columns, rows)

    def light(self, on: bool) -> None:
        """Switch the source; the next frame waits as long as for a new SLM pattern."""
        source = self.bench.source
        source.on() if on else source.off()
        self._owed = max(self._owed, self.settings.slm_settle_frames)

    def show_display(self, frame: Levels) -> None:
        self._show("display", frame, self.settings.display_settle_frames)

    def show_slm(self, frame: Levels) -> None:
        self._show("slm", frame, self.settings.slm_settle_frames)

    def frames(self, n: int, roi: Roi | None = None) -> FrameBlock:
        """``n`` settled frames of ``roi`` (the whole sensor if omitted).

        Raises
        ------
        DeviceError
            When the camera fails three times, or its frame counter runs backwards.
        """
        camera = self.bench.camera
        roi = roi or self.sensor
        if camera.roi != roi:
            camera.roi = roi
        for attempt in range(1, ATTEMPTS + 1):
            try:
                camera.arm(n, self._owed)
                block = camera.fetch(self._deadline_s(n + self._owed))
                self._check(block, n)
            except DeviceError as error:
                camera.stop()
                if attempt == ATTEMPTS or not error.retryable:
                    raise
                self.retried(n)
                self.run.journal("retry", attempt=attempt, code=error.code, what=error.what)
                self._owed = max(self._owed, self.settings.slm_settle_frames)
                continue
            self.device_s += (n + self._owed) * camera.frame_period_s
            self._owed = 0
            self._last_sequence = int(block.sequence[-1])
            supervisor.beat()
            return block
        raise AssertionError("unreachable")

    def step(
        self, panel: str, levels: tuple[Levels, Levels], counts: tuple[int, int], roi: Roi
    ) -> tuple[FrameBlock, FrameBlock]:
        """Rest on the first pattern and read, hand over the second and read from there on, unsettled."""
        self._show(panel, levels[0], REST_FRAMES)
        before = self.frames(counts[0], roi)
        self._show(panel, levels[1], 0)
        return before, self.frames(counts[1], roi)

    def record_frames(self, kind: str, frames: NDArray[np.uint16], attrs: Mapping[str, Any]) -> None:
        """Seal raw frames (n, H, W) [DN] as one segment."""
        self.run.write_segment(kind, {"frames": frames}, attrs)
        self.advance(len(frames))

    def read(
        self,
        kind: str,
        scan: Scan,
        layout: Layout,
        regions: Regions,
        display_index: NDArray[np.intp],
        attrs: Mapping[str, Any],
        extra: Mapping[str, NDArray[Any]] | None = None,
        *,
        around: bool = False,
    ) -> tuple[Readings, Readings]:
        """Show a scan in order and return its region sums, sealed in blocks of ``segment_frames``.

        Parameters
        ----------
        kind, attrs
            Of the segments.
        extra
            More arrays (n, …) of integers, one row for each frame, kept beside the readings; −1 for reference frames.
        around
            Begin and end with a reference frame.

        Returns
        -------
        The readings of the scan, and those of the reference frames between them.
        """
        scan, reference = self.references.into(scan, around)
        extra = {name: _spread(array, ~reference) for name, array in (extra or {}).items()}
        roi = Roi(*regions.window)
        dn = np.empty((len(scan), regions.weights.shape[0]))
        saturated, at_s = np.empty(len(scan)), np.empty(len(scan))
        size = self.settings.segment_frames
        for start in range(0, len(scan), size):
            rows = slice(start, min(start + size, len(scan)))
            sequence = []
            for i in range(rows.start, rows.stop):
                if i == 0 or scan.slm_index[i] != scan.slm_index[i - 1]:
                    self.show_slm(layout.slm_frame(scan.slm[scan.slm_index[i]]))
                self.show_display(display_frame(scan.display[i], display_index))
                block = self.frames(1, roi)
                dn[i], saturated[i] = regions.sum(block.frames)[0], block.saturated_fraction[0]
                sequence.append(block.sequence[0])
                at_s[i] = block.device_time_s[0]
            used = np.unique(scan.slm_index[rows])
            arrays = {
                "readings_dn": dn[rows],
                "saturated_fraction": saturated[rows],
                "slm_levels": scan.slm[used],
                "slm_index": np.searchsorted(used, scan.slm_index[rows]),
                "display_levels": scan.display[rows],
                "sequence": np.array(sequence, np.int64),
                "device_time_s": at_s[rows],
                "reference": reference[rows].astype(np.uint8),
                **{name: array[rows] for name, array in extra.items()},
            }
            self.run.write_segment(kind, arrays, attrs)
            self.advance(int((~reference[rows]).sum()))
        readings = Readings(scan, dn, saturated, at_s)
        return readings.where(~reference), readings.where(reference)

    def _show(self, panel: str, frame: Levels, settle_frames: int) -> None:
        """Hand a frame to a panel unless it shows it already; owe the settling to the next exposure."""
        content = frame.tobytes()
        if self._shown.get(panel) == content:
            return
        getattr(self.bench, panel).show(frame)
        self._shown[panel] = content
        self._owed = max(self._owed, settle_frames)

    def _check(self, block: FrameBlock, n: int) -> None:
        """Metadata may reject a frame, never accept one."""
        camera = self.bench.camera.name
        if block.dropped or len(block.frames) != n:
            raise DroppedFrames(
                "the camera lost frames",
                device=camera,
                action="acquisition",
                expected=f"{n} frames, none dropped",
                seen=f"{len(block.frames)} frames, {block.dropped} dropped",
                hint="labctl devices list",
            )
        if block.sequence[0] <= self._last_sequence or np.any(np.diff(block.sequence) != 1):
            raise StaleFrames(
                "the camera's frame counter does not advance",
                device=camera,
                action="acquisition",
                expected=f"consecutive numbers after {self._last_sequence}",
                seen=", ".join(map(str, block.sequence[:5])),
                hint="labctl devices list",
            )

    def _deadline_s(self, frames: int) -> float:
        return self.settings.fetch_timeout_s + 2 * frames * self.bench.camera.frame_period_s


def _spread(rows: NDArray[Any], place: NDArray[np.bool_]) -> NDArray[Any]:
    """Rows at the true places of a mask, −1 elsewhere."""
    spread = np.full((len(place), *rows.shape[1:]), -1, rows.dtype)
    spread[place] = rows
    return spread
