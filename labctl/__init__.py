"""The lab: what an operator types and what owns a run. In Python, what a researcher types.

>>> import labctl
>>> from torch import nn
>>> model = nn.Sequential(nn.Linear(20, 24), nn.ReLU(), nn.Linear(24, 4))
>>> optical = labctl.opticalize(model, labctl.load_calibration("bench.calib.h5"))
>>> labctl.optical_report(optical).optical
('0', '2')

Each name is imported when it is first used: importing this package costs nothing.
"""

from typing import TYPE_CHECKING

from groundwork.lazy import lazy_front

if TYPE_CHECKING:
    from calibration.loading import load_calibration
    from labctl.archive.index import open_run
    from labctl.foreign.arrays import fit, predict
    from labctl.report.again import report_run
    from labctl.station.loading import load_station
    from labctl.station.model import Station
    from labctl.workload import Workload, read_workload
    from simulation.conversion.optical import optical_report, opticalize
else:
    __getattr__, __dir__ = lazy_front(
        __name__,
        {
            "Station": "labctl.station.model",
            "Workload": "labctl.workload",
            "fit": "labctl.foreign.arrays",
            "load_calibration": "calibration.loading",
            "load_station": "labctl.station.loading",
            "open_run": "labctl.archive.index",
            "optical_report": "simulation.conversion.optical",
            "opticalize": "simulation.conversion.optical",
            "predict": "labctl.foreign.arrays",
            "read_workload": "labctl.workload",
            "report_run": "labctl.report.again",
        },
    )

__all__ = [
    "Station",
    "Workload",
    "fit",
    "load_calibration",
    "load_station",
    "open_run",
    "optical_report",
    "opticalize",
    "predict",
    "read_workload",
    "report_run",
]
