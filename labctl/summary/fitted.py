"""What a calibration chose, how well it predicts, which frames it left out, and where it lies."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import TYPE_CHECKING

from labctl.summary.parts import Number, Part

if TYPE_CHECKING:
    import calibration.statistics.bad_frame
    import calibration.statistics.choice


class Choice(Part):
    """Which form of gain, crosstalk or noise the data ask for: the test against the runner-up, and why in words."""

    chosen: str
    statistic: str
    value: Number
    p_value: Number
    runner_up: str
    reason: str

    @classmethod
    def of(cls, choice: calibration.statistics.choice.Choice) -> Choice:
        """A choice of the calibration, as documents list it."""
        return cls(**dataclasses.asdict(choice))


class Validation(Part):
    """The held-out Transformer products against the model's prediction."""

    products: int
    nrmse: Number
    r2: Number
    effective_bits: Number
    chi2_per_dof: Number
    coverage95: Number
    bad_frames: list[int] = []
    bad_frame_reasons: list[str] = []


class BadFrame(Part):
    """A frame that was not what was asked for: index in its scan (``products`` or a probe's), and what it was."""

    scan: str
    index: int
    reason: str
    chi2_per_dof: Number = None
    evidence: str = ""

    @classmethod
    def of(cls, scan: str, found: calibration.statistics.bad_frame.BadFrame) -> BadFrame:
        """A frame that an analysis left out of a scan."""
        about = {name: getattr(found, name) for name in ("index", "reason", "chi2_per_dof", "evidence")}
        return cls(scan=scan, **about)


class Compared(Part):
    """The new calibration and the one before, on held-out products and probe frames.

    ``difference`` is −2 log likelihood per reading, before − new: positive where the new one predicts better.
    """

    id: str | None
    chi2_per_dof: Number
    chi2_per_dof_before: Number
    difference: Number
    stderr: Number
    products: int


class CalibrationRef(Part):
    """The exported calibration: where it lies in the store, and whether the bench uses it from now on."""

    id: str
    path: str
    parent: str | None = None
    valid_until: datetime | None = None
    applied: bool | None = None
    why: str = ""
    compared: Compared | None = None
