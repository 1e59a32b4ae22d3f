"""Show and read: settled by counted frames, tried again where a device fails, sealed step by step.

A frame's number and time go on over everything that befalls the camera: where it was opened again, and counts from
zero, its numbers go on after those of before, and a clock that began anew is put where the old one would be. So the
``sequence`` of a run's segments rises strictly, from one segment to the next and over a run that was resumed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.errors import CapabilityError, DeviceError, DeviceProtocolError
from drivers.protocols import FrameBlock, Moment, Roi, SequencePanel, Simulated, TriggeredCamera, Trip, can
from labctl.archive import RunWriter
from labctl.archive.segments import Segment
from labctl.archive.space import require_space
from labctl.bench.bench import Bench
from labctl.bench.beside import Beside, beside
from labctl.bench.changes import Change, Changes
from labctl.bench.counted import FrameCount
from labctl.bench.interlocks import InterlockWatch, OpenedMeanwhile
from labctl.bench.ladder import Ladder, Restoring, blaming
from labctl.bench.lists import list_length
from labctl.bench.monitors import MonitorLog
from labctl.bench.steps import PANELS, ScanBlock, Settling, Step, StepResponse, WholeFrames
from labctl.bench.suspicion import Suspicion
from labctl.bench.window import Window
from labctl.station.model import Acquisition

Count = Callable[[int], None]


def uncounted(frames: int) -> None:
    """Nobody counts."""


def unwatched() -> None:
    """Nobody watches."""


class Acquirer:
    """Takes steps on an open bench and seals each as one segment of the run.

    Parameters
    ----------
    bench
        With display, SLM, camera and source.
    run
        Takes the segments and the journal.
    settings
        Settling and timeouts.
    advance
        Called with the number of frames just recorded.
    retried
        Called with the number of frames that are about to be read again.
    beat
        Called after each settled frame: there was progress.

    Attributes
    ----------
    device_s
        Device time of all steps so far, settling included [s].
    exposure_s
        As the camera reads it back [s].
    seen
        Called with each block of frames that was read; it must return at once.
    """

    def __init__(
        self,
        bench: Bench,
        run: RunWriter,
        settings: Acquisition,
        advance: Count = uncounted,
        retried: Count = uncounted,
        beat: Callable[[], None] = unwatched,
    ) -> None:
        self.bench, self.run, self.settings = bench, run, settings
        self.advance, self.retried, self._beat = advance, retried, beat
        self.seen: Callable[[FrameBlock], object] = lambda block: None
        self.device_s = 0.0
        self._settling = Settling(settings)
        self._lit: bool | None = None
        self._count, self._window = FrameCount(), Window()
        self._changes = Changes()
        self._has_begun = False
        self._left_at = Moment(0.0, 0)
        self._next_s = 0.0
        self._retried_frames = 0
        self._suspicion = Suspicion()
        self._meanwhile: Callable[[], None] = unwatched
        self._on_panel: dict[str, NDArray[Any]] = {}
        self.ladder = Ladder(bench, run, settings, self._restoring, beat)
        self._interlocks = InterlockWatch(bench, run, self.ladder, settings, beat)
        self._monitors = MonitorLog(bench, run, self.ladder, settings.monitor_spacing_s)
        bench.camera.exposure_s = settings.exposure_s
        self.exposure_s = bench.camera.exposure_s

    def take(self, step: Step) -> Segment:
        """Show and read a step, and seal it.

        Raises
        ------
        DeviceError
            When a device fails and no rung of the ladder brings it back.
        InterlockOpen
            When an interlock is open before the first step, or later for too long or too often.
        StorageError
            When the segment cannot be written.
        """
        safe = "what was sealed before is intact; the bench is made safe"
        require_space(self.run.path, 0, 1e9 * self.settings.disk_floor_gb, safe)
        self.ladder.begin_step()
        self._begin()
        self._changes.begin_step()
        if found := self._interlocks.find_open():
            self._suspend(*found)
        self._light(step)
        self._monitors.begin_step(self._now().device_time_s)
        arrays, attrs = self._read_whole(step)
        arrays |= self._changes.arrays()
        attrs |= {**step.attrs, "step": step.id, "lit": step.lit, "device_s": self.device_s}
        moment = self._now()
        readings, units = self._monitors.arrays(self._count.epoch_s or 0.0)
        arrays |= readings
        attrs |= units
        attrs["retried"] = self._retried_frames
        attrs |= {"next_sequence": moment.sequence, "next_device_time_s": moment.device_time_s}
        self._changes.end_step()
        segment = self.run.write_segment(step.kind, arrays, attrs)
        self.advance(step.rows)
        return segment

    def _read_whole(self, step: Step) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """A step's readings, all of pictures that are known to have been on the panels.

        Where a panel is found to show something else, or to be gone, nobody knows since when, and neither where an
        interlock has opened: once all is back, the step is read again from its beginning.
        """
        while True:
            self._suspicion.is_raised = self._interlocks.has_opened = False
            self._meanwhile = unwatched
            try:
                self._light(step)
                readings = self._readings(step)
                for panel in PANELS:
                    self.ladder.climb(self.bench.name_of(panel), partial(self._verify, panel))
                self._interlocks.require_none_opened()
            except OpenedMeanwhile as opened:
                self._suspend(opened.device, opened.trip)
            if self._interlocks.has_opened:
                why = "an interlock was open or silent while it was read"
            elif self._suspicion.is_raised:
                why = "a panel did not show what it was given"
            else:
                return readings
            self.run.journal("again", step=step.kind, why=why)
            self._count_retried(step.rows)

    def _readings(self, step: Step) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        match step:
            case WholeFrames():
                return self._whole_frames(step)
            case StepResponse():
                return self._step_response(step)
            case ScanBlock():
                return self._scan_block(step)
            case _:
                raise TypeError(f"no way to read a {type(step).__name__}")

    def _begin(self) -> None:
        """Before the first step of this process: no light with an open interlock, and panels as they were left."""
        if self._has_begun:
            return
        self._interlocks.require_closed()
        if past := self._changes.remembered():
            self._go_on(past)
        self._has_begun = True

    def _suspend(self, interlock: str, trip: Trip) -> None:
        """Light off, and wait; then pictures, light and settling are owed to the next frame as after a restart."""
        self._lit = None
        with suppress(CapabilityError):  # a light that no program can switch, as the station says
            self._switch(False)
        for panel in PANELS:
            self._settling.forget(panel)
        self._interlocks.wait(interlock, trip)

    def pass_over(self, step: Step, segment: Segment) -> None:
        """A step that is sealed already: what it left on the panels is known, and nothing is shown.

        The first step that is taken afterwards begins with the pictures that the last one left. A simulated bench is
        put where it would be had nobody interrupted it.
        """
        self.advance(step.rows)
        attrs = segment.attrs
        self.device_s, self._lit = float(attrs["device_s"]), bool(attrs["lit"])
        if more := int(attrs["retried"]) - self._retried_frames:
            self._count_retried(more)
        self._changes.recall(step, segment)
        self._left_at = Moment(float(attrs["next_device_time_s"]), int(attrs["next_sequence"]))

    def _go_on(self, past: Sequence[Change]) -> None:
        """Repeat what the panels have been through, on a simulated bench at its times; else show what came last."""
        if self._lit is not None:
            self._switch(self._lit)
        camera = self.bench.camera
        simulated = camera if can(camera, Simulated) else None
        last = {change.panel: change for change in past}
        for change in past if simulated else last.values():
            if simulated:
                simulated.continue_at(change.device_time_s, change.sequence)
            picture = change.step.picture(change.panel, change.picture)
            self._hand_over(change.panel, picture)
            self._settling.show(change.panel, picture.tobytes())
        self._settling.wait_for_slm()
        self._count.last = self._left_at.sequence - 1
        if simulated:
            simulated.continue_at(*astuple(self._left_at))
            self._settling.paid()
        else:
            self._count.go_on(self._left_at.sequence)

    def _now(self) -> Moment:
        """Device time and number of the next frame: exact on a simulated bench, from the last frame elsewhere."""
        camera = self.bench.camera
        return camera.now() if can(camera, Simulated) else Moment(self._next_s, self._count.last + 1)

    def _light(self, step: Step) -> None:
        """Switch the source where the step needs it; the next frame waits as long as for a new SLM pattern."""
        if self._lit is not step.lit:
            self._switch(step.lit)
            self._lit = step.lit
            self._settling.wait_for_slm()

    def _switch(self, lit: bool) -> None:
        source = self.bench.name_of("source")
        self.ladder.climb(source, lambda: self.bench.source.on() if lit else self.bench.source.off())

    def _restoring(self, names: set[str]) -> Iterator[Restoring]:
        """Bring devices that were opened again back to where they were; the light last."""
        camera, source = self.bench.name_of("camera"), self.bench.name_of("source")
        if camera in names:
            yield Restoring(camera, self._restore_camera)
        for panel in PANELS:
            if (name := self.bench.name_of(panel)) in names and panel in self._on_panel:
                yield Restoring(name, partial(self._show_again, panel))
        for name in self.bench.interlocks:
            yield Restoring(name, partial(self._interlocks.before_light, name))
        if self._lit:
            yield Restoring(source, lambda: self.bench.source.on())
        self._settling.wait_for_slm()

    def _restore_camera(self) -> None:
        """Exposure, and what its frames are numbered and timed by; the region of interest is set with each reading."""
        camera = self.bench.camera
        camera.exposure_s = self.settings.exposure_s
        if camera.exposure_s != self.exposure_s:
            raise DeviceProtocolError(
                "the camera that was opened again exposes otherwise",
                action="restoring the exposure",
                expected=f"{self.exposure_s:g} s",
                seen=f"{camera.exposure_s:g} s",
            )
        if can(camera, Simulated):
            now, stood = camera.now(), Moment(self._next_s, self._count.last + 1)
            camera.continue_at(*astuple(max(now, stood, key=lambda moment: moment.sequence)))
        else:
            self._count.go_on(self._count.last + 1)

    def _count_retried(self, frames: int) -> None:
        self._retried_frames += frames
        self.retried(frames)

    def _panel(self, name: str) -> Any:
        return {"slm": self.bench.slm, "display": self.bench.display}[name]

    def _show(
        self,
        step: Step,
        panel: str,
        picture: int,
        settle_frames: int | None = None,
        frame: NDArray[Any] | None = None,
    ) -> None:
        """Hand a picture to a panel unless it shows it already; owe the settling to the next exposure."""
        if frame is None:
            frame = step.picture(panel, picture)
        if self._settling.show(panel, frame.tobytes(), settle_frames):
            moment = self._hand_over(panel, frame)
            self._changes.add(panel, step, picture, moment)

    def _hand_over(self, panel: str, frame: NDArray[Any]) -> Moment:
        """Show a picture; returns before which frame of the camera."""

        def show() -> Moment:
            moment = self._now()
            with self._suspicion.raised_on_error():
                self._panel(panel).show(frame)
            return moment

        moment = self.ladder.climb(self.bench.name_of(panel), show)
        self._on_panel[panel] = frame
        return moment

    def _verify(self, panel: str) -> None:
        self._suspicion.verify(self._panel(panel))

    def _show_again(self, panel: str) -> None:
        self._panel(panel).show(self._on_panel[panel])

    def _whole_sensor(self) -> Roi:
        rows, columns = self.bench.camera.shape
        return Roi(0, 0, columns, rows)

    def _frames(self, n: int, roi: Roi) -> FrameBlock:
        """``n`` settled frames of ``roi``."""

        def read() -> FrameBlock:
            camera, owed = self.bench.camera, self._settling.owed
            self._window.ask(camera, roi)
            with self._stopped_on_error():
                camera.arm(n, owed)
                return self._fetched(n, 1, self.settings.fetch_timeout_s + 2 * (n + owed) * camera.frame_period_s)

        def again() -> None:
            self._count_retried(n)
            self._settling.wait_for_slm()

        block = self.ladder.climb(self.bench.name_of("camera"), read, again)
        self.device_s += (n + self._settling.paid()) * self.bench.camera.frame_period_s
        self._read(block)
        return block

    @contextmanager
    def _stopped_on_error(self) -> Iterator[None]:
        """What is armed is forgotten when reading it fails."""
        try:
            yield
        except DeviceError:
            with suppress(DeviceError):
                self.bench.camera.stop()
            raise

    def _fetched(self, n: int, apart: int, timeout_s: float) -> FrameBlock:
        """The armed frames, numbered and timed as the run counts, unless something is wrong with them."""
        self._meanwhile()
        camera = self.bench.camera
        block = self._count.counted(camera.fetch(timeout_s))
        self._count.check(block, camera.name, n, apart)
        return self._window.cut(camera, block)

    def _read(self, block: FrameBlock) -> None:
        """Frames have come: there was progress, and it is known how late it is."""
        camera = self.bench.camera
        self._next_s = float(block.device_time_s[-1]) + camera.frame_period_s
        self.run.note_clock(
            self._count.keep(block),
            simulated=can(camera, Simulated),
            began_s=float(block.device_time_s[0]),
            left_s=self._left_at.device_time_s,
        )
        now_s = self._now().device_time_s
        self._interlocks.require_none_opened(now_s)
        self._monitors.within_step(now_s)
        self.seen(block)
        self._beat()

    def _whole_frames(self, step: WholeFrames) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        frames = []
        for i, exposure in enumerate(step.exposures):
            for panel in PANELS:
                self._show(step, panel, i)
            frames.append(self._frames(exposure.frames, self._whole_sensor()).frames)
        full_scale_dn = 2**self.bench.camera.bit_depth - 1
        return {"frames": np.concatenate(frames)}, {"exposure_s": self.exposure_s, "full_scale_dn": full_scale_dn}

    def _step_response(self, step: StepResponse) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Rest on the first picture and read, hand over the second and read from there on, unsettled."""
        (other,) = (panel for panel in PANELS if panel != step.panel)
        self._show(step, other, 0)
        light, saturated = [], 0.0
        for rest, after in ((0, 1), (1, 0)):
            parts = []
            for picture, frames, settle in ((rest, step.before, step.rest), (after, step.after, 0)):
                self._show(step, step.panel, picture, settle)
                parts.append(self._frames(frames, step.window))
            light.append(np.concatenate([part.frames.sum(axis=(1, 2), dtype=np.float64) for part in parts]))
            saturated = max(saturated, *(float(part.saturated_fraction.max()) for part in parts))
        return {"rise_dn": light[0], "fall_dn": light[1]}, {
            "exposure_s": self.exposure_s,
            "period_s": self.bench.camera.frame_period_s,
            "refresh_hz": self._panel(step.panel).refresh_hz,
            "saturated": saturated,
        }

    def _scan_block(self, step: ScanBlock) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        scan, n = step.scan, len(step.scan)
        assert step.place is not None
        regions = step.place.regions
        roi = Roi(*regions.window)
        dn = np.empty((n, regions.weights.shape[0]))
        saturated, at_s, sequence = np.empty(n), np.empty(n), np.empty(n, np.int64)

        def keep(first: int, block: FrameBlock) -> None:
            rows = slice(first, first + len(block.frames))
            dn[rows], saturated[rows] = regions.sum(block.frames), block.saturated_fraction
            sequence[rows], at_s[rows] = block.sequence, block.device_time_s

        with beside(partial(step.picture, "display"), n) as aside:
            self._meanwhile = aside.start
            aside.do(lambda: step.id)  # a digest of some ten megabytes
            i = single_until = 0
            while i < n:
                if i == 0 or scan.slm_index[i] != scan.slm_index[i - 1]:
                    self._show(step, "slm", int(scan.slm_index[i]))
                count = self._playable(step, i, roi, aside) if i >= single_until else 1
                block = self._played(step, i, count, roi, aside) if count > 1 else None
                if block is None:
                    single_until, count = max(single_until, i + count), 1
                    self._show(step, "display", i, frame=aside.picture(i))
                    aside.next_picture(i + 1)
                    block = self._frames(1, roi)
                aside.do(partial(keep, i, block))
                i += count
            self._meanwhile = unwatched
            aside.finish()
        return {
            "readings_dn": dn,
            "saturated_fraction": saturated,
            "slm_levels": scan.slm,
            "slm_index": scan.slm_index,
            "display_levels": scan.display,
            "sequence": sequence,
            "device_time_s": at_s,
            "reference": step.reference.astype(np.uint8),
            **step.extra,
        }, {}

    def _playable(self, step: ScanBlock, first: int, roi: Roi, aside: Beside) -> int:
        """How many frames from ``first`` on the display may play by itself: each of them shows another picture.

        One where display or camera cannot, or where the SLM has still to settle.
        """
        display, camera = self.bench.display, self.bench.camera
        if not (self.settings.play_lists and can(display, SequencePanel) and can(camera, TriggeredCamera)):
            return 1
        if self._settling.owed or self._settling.is_shown("display", aside.picture(first).tobytes()):
            return 1
        length = list_length(self.bench, self.settings, step.scan, first, roi.width * roi.height)
        return max(1, min(length, display.sequence_max))

    def _played(self, step: ScanBlock, first: int, count: int, roi: Roi, aside: Beside) -> FrameBlock | None:
        """One settled frame of each of ``count`` pictures, which the display plays while the camera exposes.

        None where the camera has lost one: then nobody knows which, and they are read again one by one.
        """
        each, failed = 1 + self.settings.display_settle_frames, False
        pictures = [aside.picture(i) for i in range(first, first + count)]
        aside.next_picture(first + count)

        def play() -> FrameBlock | None:
            display, camera = self.bench.display, self.bench.camera
            if failed or not (can(display, SequencePanel) and can(camera, TriggeredCamera)):
                return None
            with self._stopped_on_error():
                with blaming(self.bench.name_of("camera")):
                    self._window.ask(camera, roi)
                    camera.arm_sequence(count, each)
                with blaming(self.bench.name_of("display")):
                    display.show_sequence(pictures, each)
                with blaming(self.bench.name_of("camera")):
                    exposing_s = count * each * camera.frame_period_s
                    return self._fetched(count, each, self.settings.fetch_timeout_s + 2 * exposing_s)

        def again() -> None:
            nonlocal failed
            failed = True
            self._count_retried(count)
            self._settling.forget("display")
            self._settling.wait_for_slm()

        begin, period_s = self._now(), self.bench.camera.frame_period_s
        block = self.ladder.climb("", play, again)
        if block is None:
            return None
        ended = zip(block.device_time_s[:-1], block.sequence[:-1], strict=True)
        starts = [begin, *(Moment(float(at_s) + period_s, int(number) + 1) for at_s, number in ended)]
        for i, moment in enumerate(starts):
            self._changes.add("display", step, first + i, moment)
            self.device_s += each * period_s
        self._settling.show("display", pictures[-1].tobytes())
        self._on_panel["display"] = pictures[-1]
        self._settling.paid()
        self._read(block)
        return block
