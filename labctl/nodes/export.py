"""A calibration as an artefact: with its evidence, its origin, and the one it replaces."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict
from typing import Any

from calibration.machine.artefact import Calibration, Domain
from calibration.machine.findings import DarkLevel, Findings
from labctl.nodes.analysis import Analysis, Validated
from labctl.station.model import Station


def calibration_of(
    analysis: Analysis, validated: Validated, station: Station, run: dict[str, Any], code: dict[str, Any]
) -> Calibration:
    """The calibration of a run; refitting the same run gives the same one, id and all.

    Parameters
    ----------
    run, code
        The run's ``run.json`` and ``code.json``, as written when it started.
    """
    started = dt.datetime.fromisoformat(str(run["started"]))
    until = started + dt.timedelta(hours=station.calibration.valid_hours)
    layout, fit = analysis.machine.layout, analysis.fit
    v, drift = validated.validation, validated.drift
    domain = Domain(
        exposure_s=station.acquisition.exposure_s,
        outputs=layout.rows,
        inputs=layout.columns,
        quantum_efficiency=station.camera.quantum_efficiency,
        wavelength_nm=station.source.wavelength_nm,
        gain_walk_per_sqrt_s=float(drift.track.walk_per_sqrt_s[0]) if drift else None,
        gain_left=drift.gain_left if drift else None,
    )
    dark = analysis.geometry.dark
    findings = Findings(
        structure=fit.structure,
        gain_candidates=tuple(fit.candidates),
        scan_chi2_per_dof=fit.chi2_per_dof,
        dark=DarkLevel(dark.level_dn, dark.level_stderr_dn),
        registration_rms_px={panel: r.rms_px for panel, r in analysis.geometry.registrations.items()},
        drift=drift.summary() if drift else None,
        validation={key: value for key, value in asdict(v).items() if key != "bad"},
    )
    provenance = {
        "run_id": run["run_id"],
        "bench": run["bench"],
        "mode": run["mode"],
        "config_sha256": run["config_sha256"],
        "labctl": code.get("labctl"),
        "commit": (code.get("git") or {}).get("commit"),
    }
    return Calibration(
        analysis.machine,
        domain,
        _utc(started),
        _utc(until),
        findings,
        provenance,
        run.get("calibration_parent"),
        analysis.geometry.registrations,
    )


def _utc(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
