"""The lab: what an operator types and what owns a run. In Python, what a researcher types.

>>> import labctl
>>> from torch import nn
>>> model = nn.Sequential(nn.Linear(20, 24), nn.ReLU(), nn.Linear(24, 4))
>>> optical = labctl.opticalize(model, "bench.calib.h5")
>>> labctl.optical_report(optical).optical
('0', '2')

Each name is imported when it is first used: importing this package costs nothing.
"""

from typing import TYPE_CHECKING

from groundwork.lazy import lazy_front

if TYPE_CHECKING:
    from calibration.loading import load_calibration
    from labctl.archive.index import open_run
    from labctl.commands import calibrate, command, demo, measure
    from labctl.doors.aihwkit import as_aihwkit
    from labctl.doors.bluesky_bench import as_bluesky
    from labctl.doors.labelled import to_xarray
    from labctl.doors.micromanager import as_micromanager
    from labctl.doors.slmsuite import as_slmsuite
    from labctl.foreign.arrays import fit, predict
    from labctl.report.again import report_run
    from labctl.resources import shipped_model
    from labctl.station.loading import load_station
    from labctl.station.model import Station
    from labctl.studies.adapt import adapt
    from labctl.workload import Workload, read_workload
    from simulation.conversion.optical import optical_report, opticalize, reset_optical_report
    from simulation.evaluation.perplexity import perplexity
    from simulation.models.loading import load_language
    from simulation.training.adapt import AdaptConfig
else:
    __getattr__, __dir__ = lazy_front(
        __name__,
        {
            "AdaptConfig": "simulation.training.adapt",
            "Station": "labctl.station.model",
            "Workload": "labctl.workload",
            "adapt": "labctl.studies.adapt",
            "as_aihwkit": "labctl.doors.aihwkit",
            "as_bluesky": "labctl.doors.bluesky_bench",
            "as_micromanager": "labctl.doors.micromanager",
            "as_slmsuite": "labctl.doors.slmsuite",
            "calibrate": "labctl.commands",
            "command": "labctl.commands",
            "demo": "labctl.commands",
            "fit": "labctl.foreign.arrays",
            "load_calibration": "calibration.loading",
            "load_language": "simulation.models.loading",
            "load_station": "labctl.station.loading",
            "measure": "labctl.commands",
            "open_run": "labctl.archive.index",
            "optical_report": "simulation.conversion.optical",
            "opticalize": "simulation.conversion.optical",
            "perplexity": "simulation.evaluation.perplexity",
            "predict": "labctl.foreign.arrays",
            "read_workload": "labctl.workload",
            "report_run": "labctl.report.again",
            "reset_optical_report": "simulation.conversion.optical",
            "shipped_model": "labctl.resources",
            "to_xarray": "labctl.doors.labelled",
        },
    )

__all__ = [
    "AdaptConfig",
    "Station",
    "Workload",
    "adapt",
    "as_aihwkit",
    "as_bluesky",
    "as_micromanager",
    "as_slmsuite",
    "calibrate",
    "command",
    "demo",
    "fit",
    "load_calibration",
    "load_language",
    "load_station",
    "measure",
    "open_run",
    "optical_report",
    "opticalize",
    "perplexity",
    "predict",
    "read_workload",
    "report_run",
    "reset_optical_report",
    "shipped_model",
    "to_xarray",
]
