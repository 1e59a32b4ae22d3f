"""What is no measurement never enters a fit: rows and outputs that are left out, and why, before anything is fitted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.errors import Saturated
from calibration.response.collapse import Patterns, collapsed, dark
from calibration.response.copies import ONCE_MORE, copies, lost_inputs
from calibration.response.cut_off import MOST, Course, Filled, fill, near_rails
from calibration.response.missing import (
    MANY,
    NONE_LEFT,
    by_line,
    first_filled,
    missing_in_words,
    refuse_missing,
    unread_rows,
)
from calibration.response.model import Response
from calibration.response.observations import Observations, Rows
from calibration.response.preview import Light
from calibration.response.rails import Rails, find_rails
from calibration.response.residuals import columns
from calibration.response.rollover import Turned, put_right
from calibration.response.sentinels import Gaps, Sentinel
from calibration.response.slips import Slip, find_slips
from calibration.response.startup import started_up
from calibration.statistics.bad_frame import BadFrame
from groundwork.listing import listed

Float = NDArray[np.float64]
Indices = NDArray[np.intp]

MOST_AT_CEILING = 0.2  # share of an output's readings
MOST_CUT_OFF = 0.5  # share of the rows, where those that are left are few
ENOUGH = 4  # of them for each input
NO_LIGHT = ("dropped", "stopped", "dark")  # reasons of rows in which nothing was measured
MOST_WITHOUT = 0.5  # share of the rows
STUCK = 0.98  # share of rows in which an output that is out of order reads the same


@dataclass(frozen=True)
class Screened:
    """A recording, and what of it is a measurement.

    Attributes
    ----------
    whole
        The recording.
    rows
        (k,) numbers of the rows that are kept.
    reading_of
        (n,) number of the row whose readings belong to the inputs of each row; −1 where there are none.
    bad
        Rows that are left out, with reasons.
    dead
        Outputs that read the same in every row, and what they read.
    idle
        Inputs that never change.
    rails
        Where readings are cut off; (M,) or (1,), of all outputs.
    slips
        Frames that were delivered twice or lost.
    filled
        Rows of which only some outputs were cut off or not read, with readings drawn in their place.
    missing
        (n, all) which readings are missing, by the row that they stand in; (n, 1) of a single detector.
    unfitted
        Those of `dead` that the response which the rows are held against knows nothing of.
    sentinels
        Numbers that stand for no value, among the readings and among the inputs.
    turned
        Readings that a type without signs had turned over; they were put right in `whole`.
    """

    whole: Observations
    rows: Indices
    reading_of: Indices
    bad: tuple[BadFrame, ...] = ()
    dead: Mapping[int, float] = field(default_factory=dict)
    idle: tuple[int, ...] = ()
    rails: Rails = field(default_factory=lambda: Rails.none(1))
    slips: tuple[Slip, ...] = ()
    filled: Filled | None = None
    missing: NDArray[np.bool_] = field(default_factory=lambda: np.zeros((0, 1), bool))
    unfitted: frozenset[int] = frozenset()
    sentinels: tuple[Sentinel, ...] = ()
    turned: Turned | None = None

    @property
    def live(self) -> Indices:
        """Outputs that are kept."""
        return np.array([m for m in range(self.whole.n_outputs) if m not in self.dead], np.intp)

    @property
    def kept(self) -> Observations:
        """What may be fitted."""
        kept = self.whole.selected(self.rows, self.reading_of[self.rows], self.live)
        return kept if self.filled is None else self.filled.into(kept, self.rows)

    def first(self, most: int) -> Observations:
        """The first rows that have readings, put in step, with all outputs; NaN where a reading is missing."""
        rows = np.nonzero(self.reading_of >= 0)[0][:most]
        of = self.reading_of[rows]
        found = self.whole.selected(rows, of, np.arange(self.whole.n_outputs)).between(0, len(rows))
        if found.readings is None or not len(self.missing):
            return found
        missing = self.missing[of, 0] if found.single else self.missing[of]
        return found.with_readings(np.where(missing, np.nan, np.asarray(found.readings, np.float64)))

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out or mended besides single rows, in words."""
        unit = self.whole.unit
        words = []
        for m, value in self.dead.items():
            if m in self.unfitted:
                words.append(f"output {m} was left out of the fit: nothing is known of it")
            elif np.isnan(value):
                words.append(f"output {m} has no reading: left out")
            else:
                words.append(f"output {m} reads {value:g} {unit} in every row: left out")
        if self.turned is not None and self.turned.bits:
            words.append(self.turned.in_words(self.whole.single))
        words += [sentinel.in_words for sentinel in self.sentinels]
        if copied := sum(b.evidence.startswith(ONCE_MORE) for b in self.bad):
            words.append(f"{copied} rows hold {ONCE_MORE} of a row before once more: each counts once")
        if lacking := missing_in_words(self.missing, set(self.dead), self.whole.single):
            words.append(lacking)
        words += [f"{slip.in_words}; the rows were put in step again" for slip in self.slips]
        if self.idle:
            words.append(f"input {listed(self.idle)} never changes: its gain follows from that of the others")
        for name, side in (("floor", self.rails.floor), ("ceiling", self.rails.ceiling)):
            at = [f"{m} at {v:g}" for m, v in enumerate(side) if np.isfinite(v) and m not in self.dead]
            if at:
                words.append(f"readings are cut off at a {name}: output {listed(at)} {unit}")
        cut = np.zeros((0, 1), bool) if self.filled is None else self.filled.drawn & ~self._missing_in(self.filled.rows)
        if cut.any():
            readings, rows = int(cut.sum()), int(cut.any(axis=1).sum())
            words.append(f"{readings} readings that may be cut off are left out; the other outputs of {rows} rows stay")
        return tuple(words)

    @property
    def why_not(self) -> str:
        """Why what is left does not stand for the recording; empty where it does."""
        for sentinel in self.sentinels:
            if np.isfinite(sentinel.below):
                unit, which = self.whole.unit, listed(sentinel.columns)
                return (
                    f"output {which} reads {sentinel.value:g} wherever less than about {sentinel.below:.4g} {unit} "
                    f"is expected ({sentinel.times} readings): a threshold, and what lies below is not known; record "
                    "without it, then fit again"
                )
        reasons = [frame.reason for frame in self.bad if frame.reason in NO_LIGHT]
        share = len(reasons) / self.whole.count
        if share <= MOST_WITHOUT:
            return ""
        each = ", ".join(f"{reasons.count(reason)} {reason}" for reason in NO_LIGHT if reason in reasons)
        return (
            f"{100 * share:.0f} % of the rows are no measurement ({each}): what is left is a choice; find out why (a "
            "shutter, a threshold, a camera that stopped?), then fit again"
        )

    def _missing_in(self, rows: Indices) -> NDArray[np.bool_]:
        """(k, M) which readings that belong to some rows are missing, of the outputs that are kept."""
        own = self.missing[np.maximum(self.reading_of[rows], 0)]
        return own if self.whole.single else own[:, self.live]

    @property
    def refits(self) -> int:
        """How often the fit is made again, from what a fit expects of readings that are missing or cut off."""
        live = self.missing if self.whole.single else self.missing[:, self.live]
        share = float(live.mean(axis=0).max(initial=0.0)) if not self.whole.single else 0.0
        return max(int(self.rails.any), 1 + (share > MANY) if share else 0)

    @property
    def live_rails(self) -> Rails:
        """Of the outputs that are kept."""
        if self.whole.single:
            return self.rails
        return Rails(self.rails.floor[self.live], self.rails.ceiling[self.live])

    @property
    def evidence(self) -> dict[str, Any]:
        """What a response has to remember; JSON types."""
        found: dict[str, Any] = {"notes": list(self.notes)} if self.notes else {}
        if self.dead:
            found["dead_outputs"] = {str(m): None if np.isnan(value) else value for m, value in self.dead.items()}
        if self.rails.any:
            found["rails"] = self.live_rails.as_json()
        return found

    def in_recording(self, frame: BadFrame) -> BadFrame:
        """A row of `kept` by its number in the recording, also where its evidence names others."""

        def number(match: re.Match[str]) -> str:
            return f"row {self.rows[min(int(match[1]), len(self.rows) - 1)]}"

        index = int(self.rows[min(frame.index, len(self.rows) - 1)])
        return replace(frame, index=index, evidence=re.sub(r"\brow (\d+)", number, frame.evidence))

    def without_cut_off(self, response: Response) -> Screened:
        """Leave out what is missing, and what may be cut off by what a fit expects of each reading, whatever was read.

        Readings that were chosen by their size would bend the fit: of two equal rows the one with the higher reading is
        left out. Readings chosen by the inputs do not. The other outputs of a row stay.
        """
        every = np.arange(self.whole.count)
        own = np.maximum(np.maximum.accumulate(self.reading_of), 0)  # a row that was lost takes those before it
        cut_off = {b.index for b in self.bad if b.reason == "saturated"}
        candidates = np.union1d(self.rows, np.array(sorted(cut_off), np.intp))
        whole = self.whole.selected(every, own, self.live)
        course = Course.of(response, whole, self.rows)
        near = near_rails(response, whole, self.live_rails, course) | self._missing_in(every)
        share = near.mean(axis=1)
        sure = candidates[share[candidates] == 0]
        partly = candidates[(share[candidates] > 0) & (share[candidates] <= MOST)]
        filled = None if self.whole.single else fill(response, whole, course, partly, near[partly])
        kept = sure if filled is None else np.union1d(sure, partly)
        # a reading at a rail that the fit does not expect there is wrong, not cut off: it stays, to be found as such
        bad = [b for b in self.bad if b.reason != "saturated" or (share[b.index] > 0 and b.index not in kept)]
        return replace(self, rows=kept, bad=tuple(bad), filled=filled)


def screen(observations: Observations, response: Response | None = None) -> Screened:
    """Look through a recording for what is no measurement.

    Parameters
    ----------
    response
        What fits the bench, if that is known already: rows are then held against it, and its rails are used, too.
    """
    n = observations.count
    readings = np.concatenate([columns(rows) for rows in observations.chunks()])
    single = observations.single
    known = None if response is None or set(response.dead) else _light_of(response, response.live)
    observations, readings, turned = put_right(observations, readings, known)
    missing = np.isnan(readings)
    dead = {} if single else _dead(readings, missing)
    if response is not None:  # what it knows nothing of is not held against it
        dead |= {m: _usual(readings[:, m]) for m in response.dead}
    live = np.array([m for m in range(readings.shape[1]) if m not in dead], np.intp)
    every = np.arange(n)
    if not len(live) or n < 3:
        return Screened(observations, every, every, rails=Rails.none(readings.shape[1]), missing=missing)
    if response is None:
        refuse_missing(observations, missing)
    some = observations.selected(every, every, np.arange(observations.n_outputs) if single else live)
    light = None if response is None else _light_of(response, live)
    some, y, absent, patterns = _without_gaps(some, readings[:, live], missing[:, live], light)
    twice = {} if response is not None else {b.index: b for b in copies(observations)}
    again = np.array([i in twice for i in range(n)])
    gaps = Gaps.of(some, y, ~patterns.any & ~absent.any(axis=1), light, again)
    if gaps.readings.any():
        readings[:, live] = np.where(gaps.readings, np.nan, readings[:, live])
        missing = np.isnan(readings)
        observations = observations.with_readings(readings[:, 0] if single else readings)
        dead |= {} if single else _dead(readings[:, live], missing[:, live])
        some, y, absent, patterns = _without_gaps(some, readings[:, live], missing[:, live], light)
    slips, source, line = find_slips(some, y, ~patterns.any & ~gaps.rows, light)
    expected = line.at(source) if slips else line
    bad = {b.index: b for b in collapsed(y, patterns, expected, observations.unit)}
    usable = (source >= 0) & ~gaps.rows
    bad = {b.index: b for b in dark(y, usable, expected)} | bad
    bad = {i: b for i, b in bad.items() if not gaps.rows[i]}
    bad |= {b.index: b for b in unread_rows(absent)} | gaps.frames | twice
    usable &= np.array([i not in bad for i in range(n)])
    if response is None and not slips and not single:
        bad |= {b.index: b for b in lost_inputs(some, y, usable)}
        usable &= np.array([i not in bad for i in range(n)])
    starting = started_up(some, np.where(usable, source, -1), light)
    bad |= {b.index: b for b in starting}
    usable[[b.index for b in starting]] = False
    rails = _rails(readings, y, usable, live, None if response is None else response.rails)
    found = _gathered(observations, readings, source, bad, dead, rails, tuple(slips))
    filled = first_filled(y, absent, expected, found.reading_of, found.rows) if absent.any() and not single else None
    unfitted = frozenset() if response is None else frozenset(response.dead)
    return replace(
        found, missing=missing, filled=filled, unfitted=unfitted, sentinels=gaps.numbered(live), turned=turned
    )


def _without_gaps(
    some: Observations, readings: Float, missing: NDArray[np.bool_], light: Light | None
) -> tuple[Observations, Float, NDArray[np.bool_], Patterns]:
    """The live outputs with what a line expects in place of what is missing: (n, M) readings, which are none."""
    patterns = Patterns.of(readings, ~missing)
    if not missing.any():
        return some, readings, missing, patterns
    y = np.where(missing & patterns.alike[:, None], patterns.first(readings), by_line(some, readings, missing, light))
    return some.with_readings(y[:, 0] if some.single else y), y, missing, patterns


def _gathered(
    observations: Observations,
    readings: Float,
    source: Indices,
    bad: dict[int, BadFrame],
    dead: Mapping[int, float],
    rails: Rails,
    slips: tuple[Slip, ...],
) -> Screened:
    """Put together which rows stay, by their inputs; what is said of a reading is said of the row it belongs to."""
    n = observations.count
    of = np.full(n, -1, np.intp)
    has = np.nonzero(source >= 0)[0]
    of[source[has]] = has
    found: dict[int, BadFrame] = {}
    for reading, frame in bad.items():
        row = int(source[reading]) if slips and source[reading] >= 0 else reading
        found[row] = replace(frame, index=row)
    for row in np.nonzero(of < 0)[0].tolist():
        found.setdefault(row, BadFrame(row, "lost", np.nan, "no reading of this row: frames were lost"))
    cut = rails.reached(readings) if rails.any else np.zeros(readings.shape, bool)
    cut[:, list(dead)] = False
    for reading in np.nonzero(cut.any(axis=1))[0].tolist():
        row = int(source[reading])
        if row < 0 or of[row] != reading or row in found:
            continue
        which = np.nonzero(cut[reading])[0]
        words = f"output {', '.join(map(str, which))} stands at {readings[reading, which[0]]:g}"
        if observations.single:
            words = f"stands at {readings[reading, 0]:g}"
        found[row] = BadFrame(row, "saturated", np.nan, words)
    rows = np.array([i for i in np.nonzero(of >= 0)[0].tolist() if i not in found], np.intp)
    frames = tuple(found[i] for i in sorted(found))
    return Screened(observations, rows, of, frames, dead, _idle(observations), rails, slips)


def refuse_saturated(screened: Screened) -> None:
    """Refuse a recording of which so much is cut off that the rest says little.

    Raises
    ------
    Saturated
        With the output that is worst.
    """
    whole = screened.whole
    if not screened.rails.any:
        return
    share = np.zeros(len(screened.rails.floor))
    for rows in whole.chunks():
        share += (columns(rows) >= screened.rails.ceiling).sum(axis=0)
    share /= whole.count
    cut = sum(frame.reason == "saturated" for frame in screened.bad) / whole.count
    worst = int(np.argmax(share))
    few = len(screened.rows) < ENOUGH * (whole.n_inputs + 1)
    if share[worst] <= MOST_AT_CEILING and (cut <= MOST_CUT_OFF or not few):
        return
    seen = f"output {worst}: {100 * share[worst]:.0f} % at {screened.rails.ceiling[worst]:g} {whole.unit}"
    if share[worst] <= MOST_AT_CEILING:
        seen = f"{100 * cut:.0f} % of the rows with a reading at a floor or a ceiling"
    raise Saturated(
        "the capture is saturated",
        action="fit response",
        expected=f"at most {100 * MOST_AT_CEILING:.0f} % of an output's readings at its ceiling, and "
        f"{100 * MOST_CUT_OFF:.0f} % of the rows cut off anywhere",
        seen=seen,
        hint="lower the exposure or the light (or raise the black level) and record again",
    )


def _dead(readings: Float, missing: NDArray[np.bool_]) -> dict[int, float]:
    """Outputs that read one value in (nearly) all rows, and that value; NaN of one that was (nearly) never read."""
    found = {}
    for m, column in enumerate(readings.T):
        read = ~missing[:, m]
        value = _usual(column)
        if read.mean() <= 1 - NONE_LEFT:
            found[m] = np.nan
        elif np.mean(column[read] == value) >= STUCK:
            found[m] = value
    return found


def _usual(column: Float) -> float:
    """Median of the readings that there are; NaN where there is none."""
    read = column[~np.isnan(column)]
    return float(np.median(read)) if len(read) else float("nan")


def _idle(observations: Observations) -> tuple[int, ...]:
    low, high = (np.full(observations.n_inputs, v) for v in (np.inf, -np.inf))
    for rows in observations.chunks():
        low, high = np.minimum(low, rows.inputs.min(axis=0)), np.maximum(high, rows.inputs.max(axis=0))
    return tuple(int(k) for k in np.nonzero(low == high)[0])


def _rails(readings: Float, y: Float, usable: NDArray[np.bool_], live: Indices, known: Rails | None) -> Rails:
    rails = Rails.none(readings.shape[1])
    if usable.any():
        found = find_rails(y, usable)
        rails.floor[live], rails.ceiling[live] = found.floor, found.ceiling
    if known is not None and len(known.floor) == len(live):
        rails.floor[live] = np.maximum(rails.floor[live], known.floor)
        rails.ceiling[live] = np.minimum(rails.ceiling[live], known.ceiling)
    return rails


def _light_of(response: Response, live: Indices) -> Light:
    known = response.live.tolist()
    place = [known.index(m) for m in live.tolist() if m in known]

    def light(rows: Rows) -> Float:
        found = response.mean(response.light(rows), rows)
        return found if response.single else found[:, place]

    return light
