"""Do whole runs on a small mock bench repeat, and do they refuse what is no measurement?

Runs of the command line, as an operator types them: calibrate and measure, fit again from the data alone (the
calibration's id must be the same), the source off, and the exposure so long that the camera saturates.

    python benchmarks/bench_runs.py [--json] [--quick]
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from _common import Figure, figure, parser, show

from calibration.frames.products import ProductGroup
from labctl.workload import write_workload

STATION = """
[bench]
name = "small"
[layout]
rows = 32
columns = 32
[mock]
seed = 1
[mock.slm]
rows = 256
cols = 320
[mock.display]
rows = 256
cols = 320
[mock.camera]
rows = 310
cols = 380
"""


def labctl(*arguments: str) -> dict[str, Any]:
    """The document that a command prints."""
    done = subprocess.run(
        [sys.executable, "-m", "labctl", *arguments, "--json"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[1],
    )
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def workload(path: Path) -> None:
    """Random products of one small matrix."""
    rng = np.random.default_rng(7)
    weight = rng.standard_normal((24, 32)).astype(np.float32)
    inputs = rng.standard_normal((32, 32)).astype(np.float32)
    positions = np.stack([np.zeros(32, np.int64), np.arange(32)], axis=1)
    scale = float(np.percentile(np.abs(weight), 99))
    group = ProductGroup("random", "linear", 0, weight, inputs, inputs @ weight.T, positions, scale)
    write_workload(path, [group], {"model": "random", "text": "none", "seed": 7})


def figures(quick: bool) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        station, products = here / "small.toml", here / "products.h5"
        station.write_text(STATION)
        workload(products)
        common = ("--bench", str(station), "--runs")
        run = labctl("measure", str(products), *common, str(here / "runs"))
        again = labctl("export", run["run_id"], "--runs", str(here / "runs"), "-o", str(here / "again"))
        codes = {}
        for name, change in (("dark", "mock.source.power_mw=0.0"), ("bright", "acquisition.exposure_s=0.1")):
            document = labctl("measure", str(products), *common, str(here / name), "--set", change)
            codes[name] = (document.get("first_error") or {}).get("code", "none")
    same = (run.get("calibration") or {}).get("id") == (again.get("calibration") or {"id": None}).get("id")
    refused = codes == {"dark": "E-CAL-002", "bright": "E-CAL-003"}
    return [
        figure("fitted again from its data: calibrations with the same id", float(same), "1", "1", same),
        figure(
            f"source off ({codes['dark']}), saturated ({codes['bright']}): refused", float(refused), "1", "1", refused
        ),
        figure("χ²/dof of its held-out products", run["validation"]["chi2_per_dof"], "1"),
    ]


def main() -> None:
    options = parser(__doc__).parse_args()
    show("bench_runs", lambda: figures(options.quick), options.json)


if __name__ == "__main__":
    main()
