"""The fault script: what goes wrong on the mock bench, at a frame number or at random with a seed.

In the station file a fault is a table, ``[[mock.faults]]`` with ``kind = "drop"``, ``at = 41``; in a list, as on the
command line, it is a word: ``--set 'mock.faults=["drop@41", "delay@60:3.0", "stale%0.01"]'``, that is
``KIND@FRAME[:VALUE]`` or ``KIND%RATE[:VALUE]``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from drivers.options import Checked, option, parse, refused
from groundwork.nearest import did_you_mean

KINDS: Mapping[str, float] = {
    "delay": 3.0,  # seconds of device time by which the sequence comes late
    "stale": 1.0,  # frames that show the pixels of the one before, with metadata of their own
    "drop": 1.0,  # frames lost in a row
    "duplicate": 1.0,
    "swap": 1.0,
    "garbage": 1.0,  # share of the rows that hold random numbers
    "disconnect": 1.0,
    "stuck-slm": 1e9,  # frames during which the SLM confirms what it does not show
    "saturation": 1000.0,  # factor on the light
    "blackout": 1e9,  # frames during which the source gives no light, whatever it says
    "disk-full": 1.0,
    "hang": 3600.0,  # seconds of wall time inside a native call
    "interlock": 1e9,  # frames, or questions while no frame passes, until the interlock is closed again
}
"""Kinds of faults, and what their value is where none is given."""

_WORD = re.compile(r"(?P<kind>[a-z-]+)(?:@(?P<at>\d+)|%(?P<rate>[0-9.e+-]+))(?::(?P<value>[0-9.e+-]+))?")


@dataclass(frozen=True)
class Fault(Checked):
    """One line of the script.

    Attributes
    ----------
    kind
        One of `KINDS`.
    at
        Camera frame at which it happens, once: the first frame that is read out with this number or a later one;
        −1 for at random.
    rate
        Probability per frame that is read out, where ``at`` is −1.
    value
        How long, how many, or how much: see `KINDS`; 0 for the usual.
    seed
        Of the random choice; two lines with the same seed choose the same frames.
    """

    kind: str = "drop"
    at: int = option(-1, 2**40, -1)
    rate: float = option(0, 1, 0.0)
    value: float = option(0, 1e9, 0.0)
    seed: int = option(0, 2**31, 0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind not in KINDS:
            hint = did_you_mean(self.kind, KINDS)
            raise refused(
                f"unknown fault {self.kind!r}", expected="one of " + ", ".join(KINDS), seen=self.kind, hint=hint
            )
        if (self.at < 0) == (self.rate == 0):
            raise refused(
                f"fault {self.kind!r} needs a frame number or a rate, not both",
                expected="at ≥ 0, or rate > 0",
                seen=f"at = {self.at}, rate = {self.rate:g}",
            )

    @property
    def amount(self) -> float:
        """``value``, or what is usual for the kind."""
        return self.value or KINDS[self.kind]


class FaultScript:
    """Says which faults happen at which frame; a fault with a frame number happens once.

    Parameters
    ----------
    faults
        The script.
    """

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.pending, self._since = list(faults), 0

    def due(self, kind: str, frame: int) -> Fault | None:
        """The fault of this kind that happens at ``frame``, if one does; it will not be due a second time."""
        for fault in self.pending:
            if fault.kind != kind:
                continue
            if 0 <= fault.at <= frame:
                self.pending.remove(fault)
                return fault
            if fault.at < 0 and frame >= self._since and _chance(fault.seed, frame) < fault.rate:
                return fault
        return None

    def forget_before(self, frame: int) -> None:
        """Strike out every fault that the script has for an earlier frame."""
        self._since = frame
        self.pending = [fault for fault in self.pending if fault.at < 0 or fault.at >= frame]


def parse_faults(script: Any, where: str) -> tuple[Fault, ...]:
    """Faults from a list of tables, words, or both.

    Raises
    ------
    OptionError
        For anything else.
    """
    if isinstance(script, (str, Mapping)) or not isinstance(script, Sequence):
        raise refused(f"{where} is not a list", expected="a list of tables or words", seen=repr(script))
    return tuple(_fault(entry, f"{where}[{i}]") for i, entry in enumerate(script))


def _fault(entry: Any, where: str) -> Fault:
    if isinstance(entry, str):
        match = _WORD.fullmatch(entry)
        if match is None:
            raise refused(f"{where} is no fault", expected="KIND@FRAME[:VALUE] or KIND%RATE[:VALUE]", seen=entry)
        try:
            return Fault(
                match["kind"], int(match["at"] or -1), float(match["rate"] or 0.0), float(match["value"] or 0.0)
            )
        except ValueError as error:
            raise refused(f"{where} is no fault", expected="numbers after @, % and :", seen=entry) from error
    if not isinstance(entry, Mapping):
        raise refused(f"{where} is no fault", expected="a table or a word", seen=repr(entry))
    if not isinstance(entry.get("kind"), str):
        raise refused(f"{where} is no fault", expected="kind, one of " + ", ".join(KINDS), seen=repr(dict(entry)))
    return parse(Fault, entry, where)


def _chance(seed: int, frame: int) -> float:
    """Uniform in 0 … 1, the same for the same frame."""
    return float(np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=(frame,)))).random())
