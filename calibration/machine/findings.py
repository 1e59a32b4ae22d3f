"""What the runs of a bench found beside its numbers: which forms were chosen against which, and how good they are.

A calibration carries its findings into its file. Whoever compares two calibrations reads them here, by name, so that
no reader can ask for what no writer writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from calibration.statistics.choice import Choice


@dataclass(frozen=True)
class GainCandidate:
    """One form of the gain map that was tried, and how well it explains the scans.

    Attributes
    ----------
    structure
        Name of the form, such as ``"smooth(4)"``.
    parameters
        Numbers that the form leaves free.
    chi2_per_dof
        Of all frames' means under this form [1].
    aic
        Akaike's criterion relative to the best candidate (0 is best).
    chi2, freedom, p_value
        By how much χ² falls when every macropixel gets a gain of its own, for how many more parameters, and how
        likely noise does that; of the full map itself 0, 0, 1.
    heldout_chi2_per_dof
        Of the hold-out scan under this form [1].
    """

    structure: str
    parameters: int
    chi2_per_dof: float
    aic: float
    chi2: float
    freedom: int
    p_value: float
    heldout_chi2_per_dof: float


@dataclass(frozen=True)
class DarkLevel:
    """Mean dark signal of the camera's pixels and its standard error [DN]."""

    level_dn: float
    level_stderr_dn: float


@dataclass(frozen=True)
class Findings:
    """The evidence that a calibration carries.

    In JSON every field stands under its own name, and an empty one is left out: `from_json` and `as_json` give back
    what the other got, whatever the age of the file.

    Attributes
    ----------
    structure
        What was chosen for ``gain``, ``crosstalk`` and ``noise``, and why.
    gain_candidates
        Every form of the gain map that was tried.
    scan_chi2_per_dof
        χ² per degree of freedom of each probe scan [1].
    dark
        None where nobody measured it.
    registration_rms_px
        rms distance of the fiducials from the fitted map, by panel [px].
    drift
        Model, walks and jumps of the source over the run; None where nobody followed it.
    validation
        Figures of the held-out products, by name.
    earlier
        What a file says under names that are written no more.
    """

    structure: Mapping[str, Choice] = field(default_factory=dict)
    gain_candidates: tuple[GainCandidate, ...] = ()
    scan_chi2_per_dof: Mapping[str, float] = field(default_factory=dict)
    dark: DarkLevel | None = None
    registration_rms_px: Mapping[str, float] = field(default_factory=dict)
    drift: Mapping[str, Any] | None = field(default_factory=dict)
    validation: Mapping[str, float] = field(default_factory=dict)
    earlier: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Findings:
        """Of the header's ``evidence``.

        Raises
        ------
        TypeError
            When a part does not have the fields that belong to its name.
        """
        found = dict(document)
        known: dict[str, Any] = {
            name: found.pop(name)
            for name in ("scan_chi2_per_dof", "registration_rms_px", "drift", "validation")
            if name in found
        }
        if "structure" in found:
            known["structure"] = {name: Choice(**choice) for name, choice in found.pop("structure").items()}
        if "gain_candidates" in found:
            known["gain_candidates"] = tuple(GainCandidate(**one) for one in found.pop("gain_candidates"))
        if "dark" in found:
            known["dark"] = DarkLevel(**found.pop("dark"))
        return cls(**known, earlier=found)

    def as_json(self) -> dict[str, Any]:
        """JSON types only: the header's ``evidence``."""
        document: dict[str, Any] = {
            "structure": {name: asdict(choice) for name, choice in self.structure.items()},
            "gain_candidates": [asdict(one) for one in self.gain_candidates],
            "scan_chi2_per_dof": dict(self.scan_chi2_per_dof),
            "dark": asdict(self.dark) if self.dark else {},
            "registration_rms_px": dict(self.registration_rms_px),
            "drift": None if self.drift is None else dict(self.drift),
            "validation": dict(self.validation),
        }
        return {name: part for name, part in document.items() if part is None or part} | dict(self.earlier)

    @property
    def gain_parameters(self) -> int | None:
        """Numbers that the chosen form of the gain map left free; None where the file does not say."""
        if "gain" in self.structure:
            chosen, tried = self.structure["gain"].chosen, self.gain_candidates
            return next((one.parameters for one in tried if one.structure == chosen), None)
        gain: Mapping[str, Any] = self.earlier.get("gain") or {}
        tried_then: list[Mapping[str, Any]] = gain.get("candidates") or []
        return next((int(one["parameters"]) for one in tried_then if one["structure"] == gain.get("structure")), None)

    @property
    def crosstalk_is_common(self) -> bool:
        """Whether one pair of numbers is the crosstalk of all outputs."""
        if "crosstalk" in self.structure:
            return self.structure["crosstalk"].chosen == "common"
        return bool((self.earlier.get("crosstalk") or {}).get("structure") == "common")
