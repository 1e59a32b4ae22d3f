"""A calibration of either kind as a `Record`: each array with its axes, unit and standard errors."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from calibration.errors import ArtefactError
from calibration.loading import load_calibration
from calibration.statistics.tensors import read_tensors
from labctl.doors.record import Array, Field, Part, Record, Stream, clean, described
from labctl.errors import UsageError

_AXES: Mapping[str, tuple[str, ...]] = {
    "gain_dn": ("output", "input"),
    "offset_dn": ("output",),
    "crosstalk": ("output", "neighbour_output"),
    "bleed": ("neighbour_input",),
    "display_transmission": ("display_level",),
    "slm_transmission": ("slm_level",),
    "coupling_shares": ("coupling", "output", "input"),
    "dark_response_dn": ("output", "input"),
    "dark_transmission": ("one",),
    "still_light_dn": ("output", "input"),
    "gain": ("output", "input"),
    "weights": ("output", "input"),
    "offset": ("output",),
    "input_map": ("input",),
    "output_gain": ("output",),
    "misfit": ("output",),
    "interval": ("output",),
    "offset_variance": ("output",),
    "row_variance": ("output",),
}
_WORDS = {
    "gain_dn": "light of each macropixel at full transmission, in its own region",
    "offset_dn": "light that no modulator controls",
    "crosstalk": "share of the light of the outputs before and after that a region collects",
    "bleed": "share of the light of the columns before and after that falls on a column",
    "read_noise_dn": "noise without light",
    "system_gain": "counts of one electron, which the shot noise follows",
    "intensity_noise": "relative noise of the light, an output's own",
    "display_transmission": "transmission of each gray level, relative to the brightest",
    "slm_transmission": "transmission of each gray level, relative to the brightest",
    "coupling_shares": "shares of each macropixel from and to its neighbours: before, after, above, below",
    "dark_response_dn": "what each output reads of each display column through a dark SLM",
    "dark_transmission": "of that SLM",
    "still_light_dn": "light of each macropixel that the display cannot switch off",
    "gain": "what one unit of each input adds to each output",
    "weights": "the weights that were on the bench",
    "offset": "reading without light of the inputs",
}
_NOISE = {"read_noise_dn": "DN", "system_gain": "DN/e-", "intensity_noise": "1"}
"""The three numbers of the array ``noise``, which have three units."""
_GAINS = ("gain_dn", "gain")


def record_of_calibration(path: Path) -> Record:
    """Everything that the file of a calibration holds; registrations of a bench are named in ``not_held``.

    Raises
    ------
    ArtefactError
        When the file is damaged, or of an unknown kind, or its date is none.
    UsageError
        For the portable twin of a fit of imported readings, which states no units.
    """
    header = load_calibration(path).header()  # checks it whole
    hint = f"labctl calib list   (looked at {path})"
    stored = read_tensors(path, str(header["schema"]), hint)
    units = {**header.get("units", {}), **stored.units}
    if missing := [name for name in stored.arrays if name not in units]:
        raise UsageError(
            "this file does not state the units of its arrays",
            device=str(path),
            expected="the full form, *.calib.h5",
            seen=f"no unit of {missing[0]}",
            hint="give the .calib.h5 that lies beside it",
        )
    arrays, units = _apart(stored.arrays, units)
    at_s = _moment_s(path, header.get("acquired"))
    return Record(
        str(header["id"]),
        f"calibration {header['id']}",
        str((header.get("provenance") or {}).get("bench") or ""),
        clean(_about(header)),
        at_s,
        at_s,
        "success",
        "a calibration is written whole or not at all",
        [_stream(arrays, units, at_s, stored.arrays.keys(), path if stored.more is not None else None)],
        {"header.json": str(clean(json.dumps(header, indent=2, ensure_ascii=False)))},
        ("registrations of the panels with the camera",)
        if stored.more is not None and "registration" in stored.more.groups
        else (),
    )


def _apart(arrays: Mapping[str, Array], units: Mapping[str, str]) -> tuple[dict[str, Array], dict[str, str]]:
    """Arrays and units, the noise of a bench in three numbers instead of one array of three units."""
    apart, of_units = dict(arrays), dict(units)
    for name in ("noise", "noise_stderr"):
        values = apart.pop(name, None)
        for i, (term, unit) in enumerate(_NOISE.items() if values is not None else ()):
            key = f"{term}_stderr" if name.endswith("stderr") else term
            apart[key], of_units[key] = np.asarray(values)[i], unit
    return apart, of_units


def _about(header: Mapping[str, Any]) -> dict[str, Any]:
    origin = header.get("provenance") or {}
    return {
        "calibration_id": header["id"],
        "calibration_parent": header.get("parent") or "",
        "schema": header["schema"],
        "run_id": str(origin.get("run_id") or ""),
        "bench": str(origin.get("bench") or ""),
        "acquired": header.get("acquired") or "",
        "valid_until": header.get("valid_until") or "",
        "software": {"name": "labctl", "version": str(origin.get("labctl") or "")},
        "domain": {key: value for key, value in (header.get("domain") or {}).items() if value is not None},
    }


def _stream(
    arrays: Mapping[str, Array], units: Mapping[str, str], at_s: float, stored: Collection[str], file: Path | None
) -> Stream:
    rows = {name: np.asarray(array)[np.newaxis] for name, array in arrays.items()}
    fields = {name: replace(field, filed=file is not None and name in stored) for name, field in _fields(rows, units)}
    gain = next((name for name in _GAINS if name in rows), "")
    part = Part(np.array([at_s]), rows, file)
    return Stream("calibration", "the numbers of the calibration", "", fields, 1, lambda: iter([part]), signal=gain)


def _fields(rows: Mapping[str, Array], units: Mapping[str, str]) -> Iterator[tuple[str, Field]]:
    """Each array's field: axes of one name have one length, and an error has the axes of what it is the error of."""
    errors = {error: name for name in rows if (error := _error_of(name, rows))}
    sizes: dict[str, int] = {}
    for name, array in rows.items():
        axes = _AXES.get(errors.get(name, name), ())
        shape = array.shape[1:]
        fits = len(axes) == len(shape) and all(sizes.get(a, n) == n for a, n in zip(axes, shape, strict=True))
        if fits:
            sizes |= dict(zip(axes, shape, strict=True))
        named = axes if fits else [f"{name}_{i}" for i in range(len(shape))]
        words = _WORDS.get(name, "")
        yield name, described(array, named, units[name], stderr=_error_of(name, rows), words=words)


def _error_of(name: str, names: Mapping[str, Any]) -> str | None:
    """The array of standard errors: ``gain_stderr_dn`` of ``gain_dn``, ``bleed_stderr``, ``stderr_gain``."""
    stem, _, unit = name.rpartition("_")
    return next((n for n in (f"{name}_stderr", f"{stem}_stderr_{unit}", f"stderr_{name}") if n in names), None)


def _moment_s(path: Path, at: Any) -> float:
    """Of an ISO 8601 date; 0 where nobody said when."""
    try:
        return datetime.fromisoformat(str(at)).timestamp() if at else 0.0
    except (ValueError, OverflowError) as error:
        raise ArtefactError(
            "when its data were taken cannot be read",
            device=str(path),
            expected="a date of ISO 8601",
            seen=str(at),
            hint="labctl calib list",
        ) from error
