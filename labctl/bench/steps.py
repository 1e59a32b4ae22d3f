"""Steps: what is shown and read in one go, as data. A step is sealed whole, and its id is made of its content."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.bench.regions import Regions
from calibration.frames.scan import Scan
from calibration.machine.layout import Layout, display_frame
from drivers.protocols import Roi
from labctl.station.model import Acquisition

Levels = NDArray[np.integer[Any]]

PANELS = ("slm", "display")
REST_FRAMES = 16
"""How long a panel rests before its step response is read."""
MONITOR, VALUE, AT_S = "monitor_", "_value", "_at_s"
"""Arrays of a segment: ``monitor_NAME_value`` and ``monitor_NAME_at_s``; the attribute ``monitor_NAME_unit``."""
ID_DIGITS = 16


class Shot(NamedTuple):
    """Frames of one picture on both panels, as the count of frames sees it.

    Attributes
    ----------
    display, slm
        Anything equal exactly when the panel shows the same; None where the step leaves the panel as it is.
    frames
        How many are kept.
    settle
        Frames to wait after a change of the display and of the SLM; None for what the station says.
    switched
        Whether the light is switched before them.
    """

    display: object
    slm: object
    frames: int
    settle: tuple[int, int] | None = None
    switched: bool = False


class Settling:
    """How many frames pass unread before the next one may be kept: counted once, for the bench and for the plan.

    Parameters
    ----------
    settings
        The station's settle frames.
    """

    def __init__(self, settings: Acquisition) -> None:
        self._usual = {"display": settings.display_settle_frames, "slm": settings.slm_settle_frames}
        self._shown: dict[str, object] = {}
        self.owed = 0

    def show(self, panel: str, picture: object, settle_frames: int | None = None) -> bool:
        """Whether the panel has to change for this picture; if so, the settling is owed to the next frame."""
        if self._shown.get(panel) == picture:
            return False
        self._shown[panel] = picture
        self.wait(self._usual[panel] if settle_frames is None else settle_frames)
        return True

    def is_shown(self, panel: str, picture: object) -> bool:
        """Whether the panel shows this picture already."""
        return self._shown.get(panel) == picture

    def forget(self, panel: str) -> None:
        """What the panel shows is not known any more."""
        self._shown.pop(panel, None)

    def wait(self, frames: int) -> None:
        """Owe at least so many frames."""
        self.owed = max(self.owed, frames)

    def wait_for_slm(self) -> None:
        """As long as for a new SLM pattern: after the light was switched, or a read-out failed."""
        self.wait(self._usual["slm"])

    def paid(self) -> int:
        """The frames owed; afterwards none are."""
        owed, self.owed = self.owed, 0
        return owed

    def exposed(self, shots: Iterator[Shot]) -> int:
        """Frames that the camera exposes for these shots, kept and settling ones."""
        total = 0
        for shot in shots:
            if shot.switched:
                self.wait_for_slm()
            for i, (panel, picture) in enumerate((("slm", shot.slm), ("display", shot.display))):
                if picture is not None:
                    self.show(panel, picture, None if shot.settle is None else shot.settle[1 - i])
            total += shot.frames + self.paid()
        return total


@dataclass(frozen=True, kw_only=True)
class Step(ABC):
    """What is shown and read in one go.

    Attributes
    ----------
    kind
        Of the segment that it becomes.
    attrs
        Of the segment: what the readings are of.
    lit
        Whether the source is on.
    """

    kind: str
    attrs: Mapping[str, Any] = field(default_factory=dict)
    lit: bool = True

    @abstractmethod
    def picture(self, panel: str, index: int) -> Levels:
        """(rows, columns) gray levels: the picture of this number on a panel."""

    @abstractmethod
    def shots(self) -> Iterator[Shot]:
        """What is shown and read, in order."""

    @abstractmethod
    def content(self) -> Iterator[bytes | NDArray[Any]]:
        """Everything that makes it this step and no other."""

    @property
    @abstractmethod
    def rows(self) -> int:
        """Frames kept that count as progress: reference frames are none."""

    @cached_property
    def id(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of kind, attributes and content: equal for equal steps."""
        digest = hashlib.sha256(json.dumps([self.kind, dict(self.attrs)], sort_keys=True, default=_plain).encode())
        for part in self.content():
            if isinstance(part, bytes):
                digest.update(part)
            else:
                digest.update(f"{part.dtype.str}{part.shape}".encode())
                digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()[:ID_DIGITS]


@dataclass(frozen=True)
class Exposure:
    """One picture on both panels, and how many frames of it are kept.

    Attributes
    ----------
    display, slm
        (rows, columns) gray levels of the whole panel.
    frames
        Kept.
    """

    display: Levels
    slm: Levels
    frames: int


@dataclass(frozen=True, kw_only=True)
class WholeFrames(Step):
    """Pictures read as whole frames of the sensor.

    Attributes
    ----------
    exposures
        In order.
    """

    exposures: tuple[Exposure, ...]

    def picture(self, panel: str, index: int) -> Levels:
        exposure = self.exposures[index]
        return exposure.slm if panel == "slm" else exposure.display

    def shots(self) -> Iterator[Shot]:
        for i, exposure in enumerate(self.exposures):
            yield Shot(
                exposure.display.tobytes(), exposure.slm.tobytes(), exposure.frames, switched=not i and not self.lit
            )

    def content(self) -> Iterator[bytes | NDArray[Any]]:
        yield f"lit {self.lit}".encode()
        for exposure in self.exposures:
            yield from (exposure.display, exposure.slm, str(exposure.frames).encode())

    @property
    def rows(self) -> int:
        return sum(exposure.frames for exposure in self.exposures)


@dataclass(frozen=True, kw_only=True)
class StepResponse(Step):
    """A panel at rest, then changed, and read frame by frame from the change on; in both directions.

    Attributes
    ----------
    panel
        Which one: ``"slm"`` or ``"display"``.
    other
        (rows, columns) gray levels of the panel that stays.
    levels
        The two pictures: the panel rests on the first and goes to the second, then back.
    before, after
        Frames kept at rest, and from the change on.
    window
        Of the sensor.
    rest
        Frames that pass before the panel counts as at rest.
    """

    panel: str
    other: Levels
    levels: tuple[Levels, Levels]
    before: int
    after: int
    window: Roi
    rest: int = REST_FRAMES

    def picture(self, panel: str, index: int) -> Levels:
        return self.levels[index] if panel == self.panel else self.other

    def shots(self) -> Iterator[Shot]:
        for rest, after in (self.levels, self.levels[::-1]):
            for picture, frames, settle in ((rest, self.before, self.rest), (after, self.after, 0)):
                mine, other = picture.tobytes(), self.other.tobytes()
                display, slm = (mine, other) if self.panel == "display" else (other, mine)
                yield Shot(display, slm, frames, (settle, settle))

    def content(self) -> Iterator[bytes | NDArray[Any]]:
        yield f"{self.panel} {self.before} {self.after} {self.window}".encode()
        yield from (self.other, *self.levels)

    @property
    def rows(self) -> int:
        return 2 * (self.before + self.after)


@dataclass(frozen=True)
class Place:
    """Where matrix and vector lie on the panels, and where the camera reads the outputs.

    Attributes
    ----------
    layout
        `Layout`
    regions
        Of the camera.
    display_index
        `Layout.display_index`
    """

    layout: Layout
    regions: Regions
    display_index: NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class ScanBlock(Step):
    """Consecutive frames of a scan, read as region sums.

    Attributes
    ----------
    scan
        The frames, reference frames among them.
    reference
        (n,) which are reference frames.
    extra
        More arrays (n, …) of integers that are kept beside the readings; −1 for reference frames.
    place
        Where it is shown and read; None while a plan only counts.
    """

    scan: Scan
    reference: NDArray[np.bool_]
    extra: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    place: Place | None = None

    def picture(self, panel: str, index: int) -> Levels:
        """The SLM pattern, or the display of the frame, of this number."""
        assert self.place is not None
        if panel == "slm":
            return self.place.layout.slm_frame(self.scan.slm[index])
        return display_frame(self.scan.display[index], self.place.display_index)

    def shots(self) -> Iterator[Shot]:
        patterns = [pattern.tobytes() for pattern in self.scan.slm]
        for pattern, display in zip(self.scan.slm_index, self.scan.display, strict=True):
            yield Shot(display.tobytes(), patterns[pattern], 1)

    def content(self) -> Iterator[bytes | NDArray[Any]]:
        assert self.place is not None
        yield repr(self.place.layout).encode()
        yield repr(self.place.regions.window).encode()
        weights = self.place.regions.weights
        yield from (weights.data, weights.indices, weights.indptr, self.place.display_index)
        yield from (self.scan.slm, self.scan.slm_index, self.scan.display, self.reference)
        yield from (array for _, array in sorted(self.extra.items()))

    @property
    def rows(self) -> int:
        return int((~self.reference).sum())


def blocks(
    kind: str,
    scan: Scan,
    reference: NDArray[np.bool_],
    place: Place | None,
    attrs: Mapping[str, Any],
    size: int,
    extra: Mapping[str, NDArray[Any]] | None = None,
) -> Iterator[ScanBlock]:
    """A scan in blocks of ``size`` frames, each a step; a block holds the SLM patterns that it shows.

    Parameters
    ----------
    scan, reference
        The frames, and (n,) which of them are reference frames.
    extra
        Arrays (k, …) with a row for each frame that is no reference.
    """
    spread = {name: _spread(array, ~reference) for name, array in (extra or {}).items()}
    for start in range(0, len(scan), size):
        rows = slice(start, min(start + size, len(scan)))
        used, index = np.unique(scan.slm_index[rows], return_inverse=True)
        part = Scan(scan.slm[used], index.astype(np.int64), scan.display[rows])
        yield ScanBlock(
            kind=kind,
            attrs={**attrs, "block": start // size},
            scan=part,
            reference=reference[rows],
            extra={name: array[rows] for name, array in spread.items()},
            place=place,
        )


def _spread(rows: NDArray[Any], place: NDArray[np.bool_]) -> NDArray[Any]:
    """Rows at the true places of a mask, −1 elsewhere."""
    spread = np.full((len(place), *rows.shape[1:]), -1, rows.dtype)
    spread[place] = rows
    return spread


def _plain(value: Any) -> Any:
    return value.tolist()
