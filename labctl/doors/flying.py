"""A block of frames that the bench reads by itself, as a flyer of bluesky: no message of its engine between frames."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from labctl.doors.doing import Doing, already
from labctl.doors.instruments import CameraReader, Hands, Panel
from labctl.errors import UsageError


class Block:
    """Shows and reads prepared frames one after the other: kick it off, wait for it, collect its events.

    Parameters
    ----------
    hands, slm, display, camera
        Of the open bench.
    """

    parent = None

    def __init__(self, hands: Hands, slm: Panel, display: Panel, camera: CameraReader, name: str = "block") -> None:
        self.name = name
        self._hands, self._slm, self._display, self._camera = hands, slm, display, camera
        self._frames: list[tuple[Any, Any]] = []
        self._events: list[dict[str, Any]] = []
        self._under_way: Doing | None = None
        self._stop = threading.Event()

    def prepare(self, frames: Sequence[tuple[Any, Any]]) -> Doing:
        """Take the frames of the next block: what SLM and display are set to before each; None leaves a panel as it is.

        Raises
        ------
        UsageError
            When a panel cannot show one of them.
        """
        for slm, display in frames:
            for panel, value in ((self._slm, slm), (self._display, display)):
                if value is not None:
                    panel.check_value(value)
        self._frames = list(frames)
        return already(f"{self.name}: prepare")

    def kickoff(self) -> Doing:
        """Light on, and off again when the last frame is read or one has failed.

        Raises
        ------
        UsageError
            When nothing is prepared, or a block is under way.
        """
        if not self._frames:
            raise UsageError("no frames are prepared", device=self.name, hint="block.prepare([(slm, display), …])")
        if self._under_way is not None and not self._under_way.done:
            raise UsageError("a block is under way", device=self.name, hint="bps.complete(block, wait=True) first")
        self._events, self._under_way = [], Doing(f"{self.name}: {len(self._frames)} frames")
        self._stop.clear()
        begun = Doing(f"{self.name}: light on")
        threading.Thread(target=self._fly, args=(begun, self._under_way), daemon=True).start()
        return begun

    def complete(self) -> Doing:
        """Ends when all frames are read; fails with the frame that failed."""
        return self._under_way or already(f"{self.name}: nothing was kicked off")

    def stage(self) -> Doing:
        """Nothing; for plans that unstage."""
        return already(f"{self.name}: stage")

    def unstage(self) -> Doing:
        """Read no further frame; ends when the light is off.

        A plan of one's own stages the block, so that it does not go on where the plan fails: the run engine tells a
        flyer nothing then.
        """
        self.stop()
        return self.complete()

    def stop(self, success: bool = True) -> None:
        """Read no further frame."""
        self._stop.set()

    def collect(self) -> Iterator[dict[str, Any]]:
        """Partial events of the frames that were read; a block that is still under way is stopped.

        The run engine collects from what it has kicked off also where a plan was aborted.
        """
        self.end()
        events, self._events = self._events, []
        yield from events

    def end(self) -> None:
        """Stop what is under way, and wait until the light is off."""
        if self._under_way is not None and not self._under_way.done:
            self.stop()
            self._under_way.exception(None)  # each of its calls ends, or is given up by its limit

    def describe_collect(self) -> dict[str, dict[str, Any]]:
        """Of `collect`: one stream, named as the block."""
        return {self.name: self._slm.describe() | self._display.describe() | self._camera.describe()}

    def _fly(self, begun: Doing, under_way: Doing) -> None:
        error: BaseException | None = None
        try:
            if self._camera.lit:
                self._hands.switch(True).wait()
            begun.end()
            for slm, display in self._frames:
                if self._stop.is_set():
                    break
                self._one(slm, display)
        except Exception as failed:
            error = failed
        finally:
            off = self._hands.switch(False).exception(None)
            begun.end(error)
            under_way.end(error or off)

    def _one(self, slm: Any, display: Any) -> None:
        shown = [panel.set(v) for panel, v in ((self._slm, slm), (self._display, display)) if v is not None]
        for doing in shown:
            doing.wait()
        self._camera.trigger().wait()
        read = self._slm.read() | self._display.read() | self._camera.read()
        self._events.append(
            {
                "time": time.time(),
                "data": {name: one["value"] for name, one in read.items()},
                "timestamps": {name: one["timestamp"] for name, one in read.items()},
            }
        )
