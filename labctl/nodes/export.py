"""Node *export*: the calibration as an artefact, with its evidence, its origin, and the one it replaces."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict

from calibration.machine.artefact import Calibration, Domain
from calibration.machine.findings import DarkLevel, Findings
from labctl.nodes.analysis import Analysis, analysis_of
from labctl.nodes.evidence import Evidence
from labctl.nodes.node import Node, Results, Setting
from labctl.nodes.validation import VALIDATION_NODE, Validated
from labctl.station.model import Station
from labctl.summary import Metric


class ExportNode(Node[Calibration]):
    """Only a bench in spec exports. Analysing the same run again gives the same calibration, id and all."""

    name = "export"
    parents = (VALIDATION_NODE,)
    keys = ("calibration",)
    only_in_spec = True

    def analyse(self, evidence: Evidence, results: Results, setting: Setting, metrics: list[Metric]) -> Calibration:
        analysis, validated, station = analysis_of(results), results[VALIDATION_NODE], setting.station
        run, code = setting.run, setting.code
        started = dt.datetime.fromisoformat(str(run["started"]))
        started += dt.timedelta(seconds=min(0.0, float(run.get("clock_jumped_s") or 0.0)))  # it had begun ahead
        until = started + dt.timedelta(hours=station.calibration.valid_hours)
        if setting.holds_until is not None:  # no longer than the oldest reading that it rests on
            until = min(until, dt.datetime.fromisoformat(setting.holds_until))
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
            _domain(station, analysis, validated),
            _utc(started),
            _utc(until),
            _findings(analysis, validated),
            provenance,
            run.get("calibration_parent"),
            analysis.geometry.registrations,
        )


def _domain(station: Station, analysis: Analysis, validated: Validated) -> Domain:
    """Where the calibration holds."""
    layout, drift = analysis.machine.layout, validated.drift
    return Domain(
        exposure_s=station.acquisition.exposure_s,
        outputs=layout.rows,
        inputs=layout.columns,
        quantum_efficiency=station.camera.quantum_efficiency,
        wavelength_nm=station.source.wavelength_nm,
        gain_walk_per_sqrt_s=float(drift.track.walk_per_sqrt_s[0]) if drift else None,
        gain_left=drift.gain_left if drift else None,
    )


def _findings(analysis: Analysis, validated: Validated) -> Findings:
    """What speaks for the calibration."""
    fit, dark, drift = analysis.fit, analysis.geometry.dark, validated.drift
    return Findings(
        structure=fit.structure,
        gain_candidates=tuple(fit.candidates),
        scan_chi2_per_dof=fit.chi2_per_dof,
        dark=DarkLevel(dark.level_dn, dark.level_stderr_dn),
        registration_rms_px={panel: r.rms_px for panel, r in analysis.geometry.registrations.items()},
        drift=drift.summary() if drift else None,
        validation={key: value for key, value in asdict(validated.validation).items() if key != "bad"},
    )


def _utc(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


EXPORT_NODE = ExportNode()
