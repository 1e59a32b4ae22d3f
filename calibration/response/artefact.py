"""A response on disk: ``<id>.calib.h5`` and its portable twin ``<id>.calib.safetensors``, never executed."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.errors import ArtefactError
from calibration.response.model import DriftLaw, NoiseLaw, Response, Structure
from calibration.statistics.choice import Choice
from calibration.statistics.tensors import check_id, content_id, read_tensors, write_tensors

Float = NDArray[np.float64]

SCHEMA = "labctl.response/1"

ARRAYS = (
    "offset",
    "gain",
    "weights",
    "detector",
    "centre",
    "offset_variance",
    "interval",
    "factor",
    "row_variance",
    "input_map",
    "output_gain",
    "crosstalk",
)


def response_id(response: Response) -> str:
    """``res-`` and 16 hexadecimal digits of the SHA-256 over header and arrays."""
    return content_id("res", _document(response), _arrays(response))


def header(response: Response) -> dict[str, Any]:
    """The JSON header, id included."""
    return {"id": response_id(response), **_document(response)}


def save_response(response: Response, folder: Path) -> tuple[Path, Path]:
    """Write both forms into ``folder``; each appears under its name only when it is complete."""
    return write_tensors(folder, header(response), _arrays(response), _units(response))


def load_response(path: Path) -> Response:
    """Read either form and check it whole: schema, shapes, finiteness, and the id against the content.

    Raises
    ------
    ArtefactError
        When the file is missing, truncated, altered, or of another schema.
    """
    hint = f"fit it again: labctl fit RUN   (looked at {path})"
    document, arrays = read_tensors(path, SCHEMA, hint)
    try:
        response = _assemble(document, arrays)
        found = response_id(response)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ArtefactError(
            "the header does not fit its arrays", device=str(path), seen=str(error), hint=hint
        ) from error
    check_id(path, document, found, hint)
    return response


def _document(r: Response) -> dict[str, Any]:
    law = r.noise
    return {
        "schema": SCHEMA,
        "parent": r.parent,
        "acquired": r.acquired,
        "provenance": dict(r.provenance),
        "unit": r.unit,
        "single": r.single,
        "curve": r.curve,
        "noise": {
            "read": law.read,
            "shot": law.shot,
            "intensity": law.intensity,
            "common_gain": law.common_gain,
            "common_offset": law.common_offset,
            "least_light": law.least_light,
            "tail": law.tail,
            "stderr": dict(law.stderr),
            "formula": law.formula,
        },
        "drift": {"model": r.drift.model, "clock": r.drift.clock, "last_at": r.drift.last_at},
        "domain": {"inputs": list(r.input_range), "readings": list(r.reading_range)},
        "structure": {name: _choice_document(choice) for name, choice in r.structure.items()},
        "stderr": sorted(r.stderr),
        "evidence": dict(r.evidence),
    }


def _choice_document(choice: Choice) -> dict[str, Any]:
    """The header's words: the file calls a choice's reason ``reason_in_words``."""
    document = asdict(choice)
    document["reason_in_words"] = document.pop("reason")
    return document


def _choice(document: dict[str, Any]) -> Choice:
    known = dict(document)
    return Choice(reason=known.pop("reason_in_words"), **known)


def _arrays(r: Response) -> dict[str, Float]:
    arrays = {name: getattr(r, name) for name in ARRAYS}
    arrays["noise_scale"] = r.noise.scale
    if r.noise.correlation is not None:
        arrays["noise_correlation"] = r.noise.correlation
    if r.mean_variance is not None:
        arrays["mean_variance"] = r.mean_variance
    arrays["drift_walk"], arrays["drift_level_covariance"] = r.drift.walk, r.drift.level_covariance
    arrays |= {f"stderr_{name}": value for name, value in r.stderr.items()}
    return {name: np.ascontiguousarray(a, np.float64) for name, a in arrays.items()}


def _units(r: Response) -> dict[str, str]:
    u = r.unit
    units = dict.fromkeys(_arrays(r), "1")
    units |= {"offset": u, "offset_variance": f"{u}²", "gain": f"{u} per input", "input_map": f"{u} per input"}
    units |= {"factor": f"{u} per input", "detector": f"1/{u}", "weights": "1", "centre": "input"}
    return units


def _assemble(h: dict[str, Any], a: dict[str, Float]) -> Response:
    m, n = a["weights"].shape
    for name, shape in (("offset", (m,)), ("gain", (m, n)), ("detector", (m,)), ("noise_scale", (m,))):
        if a[name].shape != shape:
            raise ValueError(f"{name} has shape {a[name].shape}, not {shape}")
    noise, drift, domain = h["noise"], h["drift"], h["domain"]
    law = NoiseLaw(
        float(noise["read"]),
        float(noise["shot"]),
        float(noise["intensity"]),
        a["noise_scale"],
        float(noise["common_gain"]),
        float(noise["common_offset"]),
        noise["stderr"],
        h["unit"],
        a.get("noise_correlation"),
        float(noise["least_light"]),
        float(noise["tail"]),
    )
    course = DriftLaw(drift["model"], drift["clock"], a["drift_walk"], a["drift_level_covariance"], drift["last_at"])
    return Response(
        **{name: a[name] for name in ARRAYS},
        curve=float(h["curve"]),
        noise=law,
        drift=course,
        structure=Structure({name: _choice(document) for name, document in h["structure"].items()}),
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
    )
