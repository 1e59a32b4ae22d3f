"""The measured data of a run by name, whether it was just read or comes back from the disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.frames.probes import levels_of_ramps
from calibration.frames.scan import PanelLevels, Readings, Scan
from calibration.frames.schedule import TileScan
from calibration.machine.layout import Tile
from calibration.machine.lut import Levels
from calibration.statistics.drift_beside import MonitorReadings
from labctl.archive import RunReader
from labctl.archive.segments import Segment
from labctl.bench.steps import AT_S, MONITOR, VALUE

Float = NDArray[np.float64]

DARK, TIMING, FIDUCIALS, PROBE, PRODUCTS, CANARY = "dark", "timing", "fiducials", "probe", "products", "canary"
"""Kinds of segments."""
CHECK = "check"
"""Attribute of segments that a quick check has read: evidence for no fit."""


@dataclass(frozen=True)
class Fiducials:
    """Camera frames of one panel's fiducials, with the other panel bright.

    Attributes
    ----------
    panel_shape
        (rows, columns) of the panel.
    background, squares, grid
        (H, W), (3, H, W) and (n, H, W) uint16 [DN].
    """

    panel_shape: tuple[int, int]
    background: NDArray[np.uint16]
    squares: NDArray[np.uint16]
    grid: NDArray[np.uint16]


@dataclass(frozen=True)
class PanelSteps:
    """Step responses of one panel, the other one bright.

    Attributes
    ----------
    rise_dn, fall_dn
        (n,) light at rest and then of consecutive frames from the step on (`calibration.bench.timing.Step`),
        dark → bright and bright → dark [DN].
    exposure_s, period_s
        Of the camera [s].
    refresh_hz
        Of the panel, as it says [Hz].
    saturated
        Largest fraction of the window at full scale [1].
    """

    rise_dn: NDArray[np.float64]
    fall_dn: NDArray[np.float64]
    exposure_s: float
    period_s: float
    refresh_hz: float
    saturated: float = 0.0


@dataclass
class Evidence:
    """What a run has measured so far.

    Attributes
    ----------
    dark
        (n, H, W) uint16 [DN], light off.
    full_scale_dn
        Largest value of the camera [DN].
    steps
        By panel; empty in a run from before steps were measured.
    fiducials
        By panel.
    scans
        Raw `Readings` by name, dark signal still in.
    tiles
        Products, in the order shown, with their raw readings.
    references
        Raw readings of the reference frames between them: by name of the scan, and of all products in their order.
    others
        Segments of any other kind, as they were sealed: of nodes that read in a way of their own.
    monitors
        By name: times on the frames' clock [s] and readings, of all steps with the light on
        but the canaries, to which no drift is fitted.
    """

    dark: NDArray[np.uint16] = field(default_factory=lambda: np.empty((0, 0, 0), np.uint16))
    full_scale_dn: int = 0
    steps: dict[str, PanelSteps] = field(default_factory=dict)
    fiducials: dict[str, Fiducials] = field(default_factory=dict)
    scans: dict[str, Readings] = field(default_factory=dict)
    tiles: list[tuple[TileScan, Readings]] = field(default_factory=list)
    references: dict[str, list[Readings]] = field(default_factory=dict)
    others: dict[str, list[Segment]] = field(default_factory=dict)
    monitors: dict[str, tuple[list[Float], list[Float]]] = field(default_factory=dict)

    @property
    def levels(self) -> PanelLevels:
        """Gray levels of the panels, by the ramps."""
        return levels_of_ramps(self.scans["display_ramp"].scan, self.scans["slm_ramp"].scan)

    def add(self, segments: Iterable[Segment]) -> None:
        """Take in segments in the order in which they were read: all blocks of a scan in one call."""
        parts: dict[tuple[Any, ...], list[dict[str, NDArray[Any]]]] = {}
        for segment in segments:
            arrays: dict[str, NDArray[Any]] = dict(segment.arrays)
            attrs, kind = segment.attrs, segment.row.kind
            if attrs.get("lit") and kind != CANARY:
                self._add_monitors(arrays, segment.row.shift_s)
            if kind == DARK:
                self.dark, self.full_scale_dn = arrays["frames"], int(attrs["full_scale_dn"])
            elif kind == TIMING:
                about = {name: float(attrs[name]) for name in ("exposure_s", "period_s", "refresh_hz", "saturated")}
                self.steps[str(attrs["panel"])] = PanelSteps(arrays["rise_dn"], arrays["fall_dn"], **about)
            elif kind == FIDUCIALS:
                frames = arrays["frames"]
                shape = (int(attrs["panel_rows"]), int(attrs["panel_columns"]))
                self.fiducials[str(attrs["panel"])] = Fiducials(shape, frames[0], frames[1:4], frames[4:])
            elif "scan" not in attrs and "tile" not in attrs:
                self.others.setdefault(kind, []).append(segment)
            else:
                if segment.row.shift_s:
                    arrays["device_time_s"] = arrays["device_time_s"] + segment.row.shift_s
                parts.setdefault(_scan_of(attrs), []).append(arrays)
        for key, blocks in parts.items():
            self._add_scan(key, blocks)

    def monitor(self, name: str, scans: Sequence[str] = ()) -> MonitorReadings | None:
        """What the monitor of this name said; None where no name is given.

        Parameters
        ----------
        scans
            Only from the first frame of these to the last, so that a node that is analysed while the run goes on sees
            the same as one that is analysed after it; all that there is if omitted.
        """
        if not name:
            return None
        at_s, value = (np.concatenate([np.empty(0), *parts]) for parts in self.monitors.get(name, ([], [])))
        shown = [r.at_s for scan in scans for r in self.references.get(scan, []) if r.at_s is not None]
        if scans:
            times = np.concatenate([np.empty(0), *shown])
            within = (at_s >= times.min(initial=np.inf)) & (at_s <= times.max(initial=-np.inf))
            at_s, value = at_s[within], value[within]
        return MonitorReadings(name, at_s, value)

    def _add_monitors(self, arrays: Mapping[str, NDArray[Any]], shift_s: float) -> None:
        for array in arrays:
            if array.startswith(MONITOR) and array.endswith(VALUE):
                name = array[len(MONITOR) : -len(VALUE)]
                at_s, value = self.monitors.setdefault(name, ([], []))
                at_s.append(arrays[f"{MONITOR}{name}{AT_S}"] + shift_s)
                value.append(arrays[array])

    def _add_scan(self, key: tuple[Any, ...], blocks: list[dict[str, NDArray[Any]]]) -> None:
        everything, reference = _join(blocks)
        readings, references = everything.where(~reference), everything.where(reference)
        name = str(key[0]) if len(key) == 1 else PRODUCTS
        if len(references):
            self.references.setdefault(name, []).append(references)
        if len(key) == 1:
            self.scans[name] = readings
            return
        product, input_pass = (np.concatenate([b[n] for b in blocks])[~reference] for n in ("product", "input_pass"))
        if "weight_pass" in blocks[0]:
            weight_pass = np.concatenate([block["weight_pass"] for block in blocks])[~reference]
        else:
            weight_pass = earlier_equals(product, input_pass)
        tile = TileScan(key[0], Tile(*key[1:]), readings.scan, product, input_pass, weight_pass)
        self.tiles.append((tile, readings))


def load_evidence(run: RunReader) -> Evidence:
    """All measured data of a run, every segment checked against its hash.

    Raises
    ------
    RunDamaged
        When a segment is missing or altered.
    """
    evidence = Evidence()
    evidence.add(
        s for s in run.segments() if CHECK not in s.attrs and ("tile" not in s.attrs or s.row.kind == PRODUCTS)
    )
    return evidence


def earlier_equals(*columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) how many rows before each one have the same values in all columns.

    Each weight pass of a tile shows the same products and input passes: in runs that did not note the weight pass of a
    frame, this is it.
    """
    _, which = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)
    which = which.ravel()
    order = np.argsort(which, kind="stable")
    first = np.searchsorted(which[order], which[order])
    count = np.empty(len(which), np.int64)
    count[order] = np.arange(len(which)) - first
    return count


def _scan_of(attrs: Mapping[str, Any]) -> tuple[Any, ...]:
    """Which scan a block is of: the name of a probe's, or group and tile of a product's."""
    if "scan" in attrs:
        return (str(attrs["scan"]),)
    return (int(attrs["group"]), *(int(edge) for edge in attrs["tile"]))


def _join(blocks: list[dict[str, NDArray[Any]]]) -> tuple[Readings, NDArray[np.bool_]]:
    """Blocks of one scan as one scan, each SLM pattern listed once, and a mask of its reference frames.

    Runs of before there were references have none.
    """
    patterns: list[Levels] = []
    known: dict[bytes, int] = {}
    index = []
    for block in blocks:
        place = []
        for pattern in block["slm_levels"]:
            key = pattern.tobytes()
            if key not in known:
                known[key] = len(patterns)
                patterns.append(pattern)
            place.append(known[key])
        index.append(np.array(place, np.int64)[block["slm_index"]])
    display, dn, saturated, at_s = (
        np.concatenate([block[name] for block in blocks])
        for name in ("display_levels", "readings_dn", "saturated_fraction", "device_time_s")
    )
    shown = [block.get("reference", np.zeros(len(block["readings_dn"]))) for block in blocks]
    readings = Readings(Scan(np.stack(patterns), np.concatenate(index), display), dn, saturated, at_s)
    return readings, np.concatenate(shown).astype(np.bool_)
