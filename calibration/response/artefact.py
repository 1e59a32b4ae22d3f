"""A response on disk: ``<id>.calib.h5`` and its portable twin ``<id>.calib.safetensors``, never executed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.errors import ArtefactError
from calibration.response.laws import DriftLaw, NoiseLaw
from calibration.response.model import ARRAYS, FIRST_SCHEMA, SCHEMA, Response
from calibration.response.power_curve import Bend, PowerCurve
from calibration.response.shown import Shown
from calibration.statistics.choice import Choice
from calibration.statistics.tensors import REGISTRATIONS_SHA256, check_whole, read_header, read_tensors, write_tensors

Float = NDArray[np.float64]


def save_response(response: Response, folder: Path) -> tuple[Path, Path]:
    """Write both forms into ``folder``; each appears under its name only when it is complete."""
    return write_tensors(folder, response.header(), response.arrays(), _units(response))


def load_response(path: Path) -> Response:
    """Read either form and check it whole: schema, shapes, finiteness, and the id against the content.

    Raises
    ------
    ArtefactError
        When the file is missing, truncated, altered, or of another schema.
    """
    hint = f"fit it again: labctl fit RUN   (looked at {path})"
    first = read_header(path, hint).get("schema") == FIRST_SCHEMA
    stored = read_tensors(path, FIRST_SCHEMA if first else SCHEMA, hint)
    try:
        response = _assemble(stored.header, stored.arrays)
        header = response.header()
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise ArtefactError(
            "the header does not fit its arrays", device=str(path), seen=str(error), hint=hint
        ) from error
    if stored.more is not None and (set(stored.more.groups) - {""} or REGISTRATIONS_SHA256 in stored.more.attrs):
        raise ArtefactError("groups that do not belong there", device=str(path), expected="arrays alone", hint=hint)
    check_whole(path, stored, header, _units(response), hint)
    return response


def _units(r: Response) -> dict[str, str]:
    u = r.unit
    units = dict.fromkeys(r.arrays(), "1")
    units |= {"offset": u, "offset_variance": f"{u}²", "gain": f"{u} per input", "input_map": f"{u} per input"}
    units |= {"factor": f"{u} per input", "weights": "1", "centre": "input"}
    if "misfit" in units:
        units["misfit"] = u
    if r.shown is not None:
        units |= {"shown_inputs": "input", "shown_light": u, "shown_middle": u}
        units |= {"leverage_size": f"{u} per input", "leverage_base": f"{u} per input"}
        units |= {"leverage_noise": f"{u}²", "leverage_reference": f"{u}²"}
    if "detector" in units:  # of the schema before
        units["detector"] = f"1/{u}"
    return units


def _bend(document: dict[str, Any], arrays: dict[str, Float], outputs: int, inputs: int) -> Bend:
    powers = tuple(float(p) for p in document["terms"])
    if not powers:
        return Bend()
    gain, level, slope = arrays["bend"], arrays["bend_level"], arrays["bend_slope"]
    if gain.shape != (len(powers), outputs, inputs) or level.shape != slope.shape != (len(powers), inputs):
        raise ValueError(f"bend has shape {gain.shape}")
    low, high = (float(v) for v in document["range"])
    return Bend(powers, float(document["scale"]), low, high, level, slope, gain)


def _curves(h: dict[str, Any], a: dict[str, Float], outputs: int, inputs: int) -> dict[str, Any]:
    """What a response has of curves, by the names of its attributes."""
    if h["schema"] == FIRST_SCHEMA:
        q, detector, domain = float(h["curve"]), a["detector"], h["domain"]
        reach = [max(abs(float(v)) for v in domain[name]) or 1.0 for name in ("inputs", "readings")]
        return {
            "squares": (q, detector),
            "input_curve": PowerCurve.square(np.array([q]), reach[0]),
            "detector_curve": PowerCurve.square(detector, reach[1]),
        }
    return {
        "input_curve": PowerCurve.of(h["curves"]["input"], a.get("input_curve")),
        "detector_curve": PowerCurve.of(h["curves"]["detector"], a.get("detector_curve")),
        "bend": _bend(h["curves"]["each"], a, outputs, inputs),
    }


def _assemble(h: dict[str, Any], a: dict[str, Float]) -> Response:
    m, n = a["weights"].shape
    for name, shape in (("offset", (m,)), ("gain", (m, n)), ("noise_scale", (m,))):
        if a[name].shape != shape:
            raise ValueError(f"{name} has shape {a[name].shape}, not {shape}")
    noise, drift, domain = h["noise"], h["drift"], h["domain"]
    law = NoiseLaw.of(noise, a["noise_scale"], a.get("noise_correlation"), h["unit"])
    course = DriftLaw(drift["model"], drift["clock"], a["drift_walk"], a["drift_level_covariance"], drift["last_at"])
    named: dict[str, Any] = {name: a[name] for name in ARRAYS}
    return Response(
        **named,
        **_curves(h, a, m, n),
        noise=law,
        drift=course,
        structure={name: Choice.of(document) for name, document in h["structure"].items()},
        single=bool(h["single"]),
        input_range=(float(domain["inputs"][0]), float(domain["inputs"][1])),
        reading_range=(float(domain["readings"][0]), float(domain["readings"][1])),
        unit=h["unit"],
        stderr={name: a[f"stderr_{name}"] for name in h["stderr"]},
        evidence=h["evidence"],
        parent=h["parent"],
        acquired=str(h["acquired"]),
        provenance=dict(h["provenance"]),
        mean_variance=a.get("mean_variance"),
        misfit=a.get("misfit"),
        shown=Shown.of(h["shown"], a, 1 if h["single"] else m, n) if "shown" in h else None,
    )
