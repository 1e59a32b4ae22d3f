"""The exported calibration: ``*.calib.h5`` (everything) and its portable twin ``*.calib.safetensors``.

Both hold the same arrays under the same names and the same JSON header; the h5 file adds units as attributes and
the fiducials of the registration. The id is a hash of header and arrays, so that equal calibrations have equal
ids wherever and whenever they were written. Nothing in either file is ever executed.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from calibration.errors import ArtefactError, CalibrationError
from calibration.machine.channel import Channel, Couplings
from calibration.machine.encoding import encoding
from calibration.machine.families import families_of
from calibration.machine.findings import Findings
from calibration.machine.layout import Layout
from calibration.machine.lut import Lut
from calibration.machine.machine import Machine
from calibration.machine.noise import Noise
from calibration.machine.registration import Lens, Registration
from calibration.statistics.difference import Family
from calibration.statistics.tensors import (
    REGISTRATIONS_SHA256,
    canonical,
    check_whole,
    content_id,
    read_header,
    read_tensors,
    write_tensors,
)
from groundwork.notebook import Card, Carded, figures, joined
from groundwork.opening.hdf5 import Hdf5

Float = NDArray[np.float64]

SCHEMA = "labctl.calibration/1"
RESPONSES = "labctl.response/"
"""How the schemas begin of what fits of imported readings have written."""

UNITS = {
    "display_transmission": "1",
    "display_transmission_stderr": "1",
    "slm_transmission": "1",
    "slm_transmission_stderr": "1",
    "gain_dn": "DN",
    "gain_stderr_dn": "DN",
    "offset_dn": "DN",
    "offset_stderr_dn": "DN",
    "crosstalk": "1",
    "crosstalk_stderr": "1",
    "bleed": "1",
    "bleed_stderr": "1",
    "noise": "DN, DN/e-, 1",
    "noise_stderr": "DN, DN/e-, 1",
}
COUPLING_UNITS = {
    "coupling_shares": "1",
    "coupling_shares_stderr": "1",
    "dark_response_dn": "DN",
    "dark_response_stderr_dn": "DN",
    "dark_transmission": "1",
}
"""Of a channel with `Couplings`: all of them, or none. Shares are (4, M, K): before, after, above, below."""
STILL_UNITS = {"still_light_dn": "DN", "still_light_stderr_dn": "DN"}
"""Of `Couplings` that found light which the display cannot switch off: both, or none."""


@dataclass(frozen=True)
class Domain:
    """Where the calibration holds.

    Attributes
    ----------
    exposure_s
        Camera exposure [s].
    outputs, inputs
        Largest tile of one frame.
    quantum_efficiency
        Electrons per photon at the sensor, from the camera's data sheet [1].
    wavelength_nm
        Of the source [nm].
    operands
        Range of weights and inputs after scaling [1].
    temperature_c
        Range measured while the data were taken; None on a bench without a thermometer [°C].
    gain_walk_per_sqrt_s
        Random walk of the gain: its relative standard deviation one second after the last reference frame [1/√s]; None
        where nobody followed it.
    gain_left
        Relative standard error of the gain between reference frames, which no correction takes out, the same for all
        outputs of a frame: rms over the run [1]; None where nobody followed it.
    """

    exposure_s: float
    outputs: int
    inputs: int
    quantum_efficiency: float
    wavelength_nm: float
    operands: tuple[float, float] = (-1.0, 1.0)
    temperature_c: tuple[float, float] | None = None
    gain_walk_per_sqrt_s: float | None = None
    gain_left: float | None = None

    def gain_stderr(self, after_s: float) -> float:
        """Relative standard error of the gain, the same for all outputs, so long after the last reference frame [1]."""
        return (self.gain_walk_per_sqrt_s or 0.0) * math.sqrt(after_s)


_HELD_OUT = {
    "effective_bits": "effective bits",
    "nrmse": "nrmse",
    "chi2_per_dof": "χ²/dof",
    "coverage95": "within the 95 % interval",
}


@dataclass(frozen=True, repr=False)
class Calibration(Carded):
    """A calibrated machine with its evidence and its origin.

    Attributes
    ----------
    machine
        `Machine`
    domain
        `Domain`
    acquired, valid_until
        ISO 8601, UTC.
    evidence
        `Findings`: what was chosen against what, and the held-out validation.
    provenance
        Run, bench, station and code; JSON types.
    parent
        Id of the calibration this one replaces.
    registrations
        Of display and SLM, with every fiducial; in the h5 file only, and not part of the id.
    """

    machine: Machine
    domain: Domain
    acquired: str
    valid_until: str
    evidence: Findings
    provenance: Mapping[str, Any]
    parent: str | None = None
    registrations: Mapping[str, Registration] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """``cal-`` and 16 hexadecimal digits of the SHA-256 over header and arrays."""
        return content_id("cal", self._document(), self._arrays())

    def header(self) -> dict[str, Any]:
        """The JSON header, id included (``data/schemas/calibration-1.schema.json``)."""
        return {"id": self.id, **json.loads(canonical(self._document()))}

    def families(self) -> list[Family]:
        """Its numbers by family, to be compared with those of another calibration of the bench."""
        return families_of(self.machine, self.evidence, self.registrations)

    def card(self) -> Card:
        """What a notebook shows of it."""
        outputs, inputs = self.machine.channel.shape
        held_out = figures(self.evidence.validation, _HELD_OUT)
        return Card(
            f"calibration {self.id}",
            f"{outputs} × {inputs}, valid until {self.valid_until}",
            {
                "bench": self.provenance.get("bench"),
                "held-out products": held_out,
                "structure": joined({name: choice.chosen for name, choice in self.evidence.structure.items()}),
                "signs": self.machine.encoding.name,
                "exposure": f"{1e3 * self.domain.exposure_s:.4g} ms",
                "acquired": self.acquired,
                "run": self.provenance.get("run_id"),
                "replaces": self.parent,
            },
        )

    def predict(self, weights: Float, inputs: Float) -> tuple[Float, Float]:
        """Readings of one pass of non-negative operands, and their standard deviation, both (n, M) [DN].

        Parameters
        ----------
        weights
            (m, k) share of the way from the SLM's darkest to its brightest level, 0 … 1.
        inputs
            (n, k) the same for the display.
        """
        mean, variance = self.machine.predict(self.machine.slm.encode(weights), self.machine.display.encode(inputs))
        return mean, np.sqrt(variance)

    def _document(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "parent": self.parent,
            "acquired": self.acquired,
            "valid_until": self.valid_until,
            "encoding": self.machine.encoding.name,
            "layout": asdict(self.machine.layout),
            "domain": {key: value for key, value in asdict(self.domain).items() if value is not None},
            "units": _units(self._arrays()),
            "evidence": self.evidence.as_json(),
            "provenance": dict(self.provenance),
        }

    def _arrays(self) -> dict[str, NDArray[np.float64]]:
        m, c = self.machine, self.machine.channel
        couplings: dict[str, NDArray[np.float64]] = {}
        if x := c.couplings:
            couplings = {
                "coupling_shares": np.stack([x.before, x.after, x.above, x.below]),
                "coupling_shares_stderr": x.stderr,
                "dark_response_dn": x.dark_dn,
                "dark_response_stderr_dn": x.dark_stderr_dn,
                "dark_transmission": np.array([x.dark_transmission]),
            }
            if x.still_dn is not None and x.still_stderr_dn is not None:
                couplings |= {"still_light_dn": x.still_dn, "still_light_stderr_dn": x.still_stderr_dn}
        return couplings | {
            "display_transmission": m.display.transmission,
            "display_transmission_stderr": m.display.stderr,
            "slm_transmission": m.slm.transmission,
            "slm_transmission_stderr": m.slm.stderr,
            "gain_dn": c.gain_dn,
            "gain_stderr_dn": c.gain_stderr_dn,
            "offset_dn": c.offset_dn,
            "offset_stderr_dn": c.offset_stderr_dn,
            "crosstalk": c.crosstalk,
            "crosstalk_stderr": c.crosstalk_stderr,
            "bleed": c.bleed,
            "bleed_stderr": c.bleed_stderr,
            "noise": np.array([c.noise.read_dn, c.noise.shot_dn, c.noise.flicker]),
            "noise_stderr": c.noise.stderr,
        }


def save(calibration: Calibration, folder: Path) -> tuple[Path, Path]:
    """Write ``<id>.calib.h5`` and ``<id>.calib.safetensors`` into ``folder``; return both paths.

    Each file appears under its name only when it is complete.
    """
    arrays = {name: np.ascontiguousarray(a, np.float64) for name, a in calibration._arrays().items()}

    return write_tensors(
        folder,
        calibration.header(),
        arrays,
        UNITS | COUPLING_UNITS | STILL_UNITS,
        partial(_write_registrations, calibration.registrations),
    )


def _units(arrays: Mapping[str, NDArray[np.float64]]) -> dict[str, str]:
    """Units of all arrays that a calibration with some of these has."""
    still = STILL_UNITS if arrays.keys() & STILL_UNITS.keys() else {}
    return UNITS | (COUPLING_UNITS if arrays.keys() & COUPLING_UNITS.keys() or still else {}) | still


def _require_machine(path: Path, hint: str) -> None:
    """Refuse what a fit of imported readings has written: its light cannot be chosen, and it is no machine."""
    schema = str(read_header(path, hint).get("schema"))
    if schema.startswith(RESPONSES):
        raise ArtefactError(
            "a calibration of imported readings is of a bench whose light cannot be chosen",
            device=str(path),
            expected=f"{SCHEMA}: a calibration that labctl measure or labctl demo has made",
            seen=schema,
            hint=f"labctl predict {path} FILE   ·   labctl simulate {path}   ·   "
            f"labctl adapt MODEL --calibration {path} -o DIR   ·   "
            "in Python: labctl.predict(labctl.load_calibration(PATH), inputs)",
        )


def load(path: Path) -> Calibration:
    """Read either form and check it whole: schema, shapes, finiteness, and the id against the content.

    Raises
    ------
    ArtefactError
        When the file is missing, truncated, altered, or of another schema.
    """
    hint = f"export it again: labctl export RUN   (looked at {path})"
    _require_machine(path, hint)
    stored = read_tensors(path, SCHEMA, hint)
    units = _units(stored.arrays)
    if missing := [name for name in units if name not in stored.arrays]:
        raise ArtefactError(
            "arrays are missing", device=str(path), expected="all of them", seen=", ".join(missing), hint=hint
        )
    try:
        calibration = _assemble(stored.header, stored.arrays)
        header = calibration.header()
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, CalibrationError) as error:
        raise ArtefactError(
            "the header does not fit its arrays", device=str(path), seen=str(error), hint=hint
        ) from error
    check_whole(path, stored, header, units, hint)
    if stored.more is None:
        return calibration
    try:
        registrations = _read_registrations(stored.more)
    except (KeyError, TypeError, ValueError) as error:
        raise ArtefactError("the registrations cannot be read", device=str(path), seen=str(error), hint=hint) from error
    return replace(calibration, registrations=registrations)


def _assemble(header: dict[str, Any], a: dict[str, NDArray[np.float64]]) -> Calibration:
    layout = dict(header["layout"])
    layout["panel_shape"] = tuple(layout["panel_shape"])
    read, shot, flicker = (float(v) for v in a["noise"])
    channel = Channel(
        a["gain_dn"],
        a["gain_stderr_dn"],
        a["offset_dn"],
        a["offset_stderr_dn"],
        a["crosstalk"],
        a["crosstalk_stderr"],
        a["bleed"],
        a["bleed_stderr"],
        Noise(read, shot, flicker, a["noise_stderr"]),
        _couplings(a),
    )
    machine = Machine(
        Layout(**layout),
        Lut(a["display_transmission"], a["display_transmission_stderr"]),
        Lut(a["slm_transmission"], a["slm_transmission_stderr"]),
        channel,
        encoding(header["encoding"]),
    )
    return Calibration(
        machine,
        _domain(header["domain"]),
        header["acquired"],
        header["valid_until"],
        Findings.from_json(header["evidence"]),
        header["provenance"],
        header["parent"],
    )


def _domain(header: dict[str, Any]) -> Domain:
    domain = Domain(**header)
    low, high = domain.operands
    warm = domain.temperature_c
    return replace(domain, operands=(low, high), temperature_c=None if warm is None else (warm[0], warm[1]))


def _couplings(a: dict[str, NDArray[np.float64]]) -> Couplings | None:
    if "coupling_shares" not in a:
        return None
    before, after, above, below = a["coupling_shares"]
    return Couplings(
        before,
        after,
        above,
        below,
        a["dark_response_dn"],
        float(a["dark_transmission"][0]),
        a["coupling_shares_stderr"],
        a["dark_response_stderr_dn"],
        a.get("still_light_dn"),
        a.get("still_light_stderr_dn"),
    )


_DATASETS = ("panel_to_camera", "points_px", "found_px", "residual_px")


def _write_registrations(registrations: Mapping[str, Registration], file: h5py.File) -> None:
    """Into an open HDF5 file, with the hash of all of it: it is no part of the calibration's id."""
    for panel, r in registrations.items():
        group = file.create_group(f"registration/{panel}")
        group.attrs["model"], group.attrs["p_value"] = r.model, r.p_value
        if r.lens.distortion:
            group.create_dataset("lens", data=[*r.lens.centre_px, r.lens.radius_px, r.lens.distortion])
        for name in _DATASETS:
            data = group.create_dataset(name, data=np.asarray(getattr(r, name), np.float64))
            if name.endswith("_px"):
                data.attrs["unit"] = "px"
    if registrations:
        file.attrs[REGISTRATIONS_SHA256] = np.bytes_(_hash_of(registrations).encode())


def _read_registrations(file: Hdf5) -> dict[str, Registration]:
    panels = [name.removeprefix("registration/") for name in file.groups if name not in ("", "registration")]
    found = {panel: _registration(panel, file) for panel in panels}
    strange = [
        name for name in file.datasets if "/" in name and name.rpartition("/")[2] not in (*_DATASETS, "lens")
    ] + [panel for panel in panels if "/" in panel]
    if strange:
        raise ValueError(f"{', '.join(strange)} do not belong there")
    stated = file.attrs.get(REGISTRATIONS_SHA256)
    # files of version 0.2.0 and before have none
    if stated is not None and stated != _hash_of(found).encode():
        raise ValueError("they do not have the hash that is stated: the file was altered")
    return found


def _registration(panel: str, file: Hdf5) -> Registration:
    about = file.groups[f"registration/{panel}"]
    arrays = {}
    for name, shape in zip(_DATASETS, ((3, 3), (-1, 2), (-1, 2), (-1, 2)), strict=True):
        data = file.datasets[f"registration/{panel}/{name}"]
        array = np.asarray(data.values, np.float64)
        if array.ndim != 2 or any(n not in (-1, seen) for n, seen in zip(shape, array.shape, strict=True)):
            raise ValueError(f"{name} of {panel} has shape {array.shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} of {panel} is not finite")
        arrays[name] = array
    if len({len(arrays[name]) for name in _DATASETS[1:]}) > 1:
        raise ValueError(f"{panel} has not as many points found as shown")
    lens = file.datasets.get(f"registration/{panel}/lens")
    x, y, radius, distortion = (0.0, 0.0, 1.0, 0.0) if lens is None else (float(v) for v in lens.values)
    return Registration(
        panel,
        arrays["panel_to_camera"],
        arrays["points_px"],
        arrays["found_px"],
        arrays["residual_px"],
        str(about["model"]),
        float(about["p_value"]),
        Lens((x, y), radius, distortion),
    )


def _hash_of(registrations: Mapping[str, Registration]) -> str:
    digest = hashlib.sha256()
    for panel, r in sorted(registrations.items()):
        lens = [*r.lens.centre_px, r.lens.radius_px, r.lens.distortion]
        digest.update(canonical({"panel": panel, "model": r.model, "p_value": r.p_value, "lens": lens}).encode())
        for name in _DATASETS:
            array = np.ascontiguousarray(getattr(r, name), np.float64)
            digest.update(f"{name}{array.shape}".encode() + array.tobytes())
    return digest.hexdigest()
