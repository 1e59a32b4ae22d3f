"""Does a calibration over real protocols find what one on the mock bench itself finds?

The same measurement twice, as an operator types it: ``labctl measure`` on the mock bench in the same process, and on
``labctl mock serve`` in another one, reached through GenICam over GigE Vision, two monitors of an X server without a
graphics card, SCPI over TCP and a serial line. Both calibrations are validated with products and compared by
``labctl calib diff``: every family of numbers within its standard errors. The two see different noise, since the served
bench exposes frames of other numbers; benches with other seeds in the process show what that alone does. The served
bench is real time, the mock in the process is not.

Needs ``pip install labctl[genicam,display]`` and an X server with the dummy driver.

    python benchmarks/served_loop.py [--json] [--quick]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from _common import Figure, figure, parser, show
from bench_runs import STATION as SMALL

from calibration.frames.products import ProductGroup
from drivers.libraries.xserver import DummyX
from labctl.archive import RunReader, find_run
from labctl.station import load_station
from labctl.workload import write_workload
from mock_hardware import parse

START_S = 60.0
FRAMES_HZ = 60
"""Of the camera in both stations [Hz]."""
DESKTOP = 640, 480
CONTROLS = 2, 3, 4
"""Other seeds of the bench in the process: how far apart calibrations of equal benches are."""
PRODUCTS = 96
"""So many that χ² per output, of 24 outputs each, scatters by 0.03 and stays within the station's limits."""


class Measured(NamedTuple):
    """One run: its summary, the file of its calibration, its exposures, and its wall-clock time [s]."""

    summary: dict[str, Any]
    calibration: str
    exposures: int
    wall_s: float

    @property
    def acquiring_s(self) -> float:
        """Wall-clock time of the nodes that read frames, their analysis included [s]."""
        return sum(float(node["duration_s"] or 0.0) for node in self.summary["nodes"])


def labctl(environment: dict[str, str], *arguments: str) -> dict[str, Any]:
    """The document that a command prints."""
    done = subprocess.run(
        [sys.executable, "-m", "labctl", *arguments, "--json"],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=Path(__file__).parents[1],
    )
    try:
        document: dict[str, Any] = json.loads(done.stdout)
    except json.JSONDecodeError:
        raise SystemExit(f"labctl {' '.join(arguments)}: exit code {done.returncode}\n{done.stderr}") from None
    return document


def measure(environment: dict[str, str], station: Path, products: Path, here: Path, change: str = "") -> Measured:
    """Calibrate, measure, validate; with one key of the station changed."""
    begin_s = time.monotonic()
    runs = Path(tempfile.mkdtemp(dir=here))
    changes = ["--set", change] if change else []
    summary = labctl(environment, "measure", str(products), "--bench", str(station), "--runs", str(runs), *changes)
    if not summary.get("calibration"):
        outside = [metric for metric in summary.get("metrics", []) if metric["verdict"] not in ("info", "ok")]
        validation = summary.get("validation")
        raise SystemExit(f"no calibration of {station.name}: {summary.get('first_error')} {outside} {validation}")
    wall_s = time.monotonic() - begin_s
    device_s = max(
        segment.attrs.get("device_s", 0.0) for segment in RunReader(find_run(runs, summary["run_id"])).segments()
    )
    return Measured(summary, summary["calibration"]["path"], round(device_s * FRAMES_HZ), wall_s)


def write_products(path: Path) -> None:
    """Random products of one small matrix."""
    rng = np.random.default_rng(7)
    weight = rng.standard_normal((24, 32)).astype(np.float32)
    inputs = rng.standard_normal((PRODUCTS, 32)).astype(np.float32)
    positions = np.stack([np.zeros(PRODUCTS, np.int64), np.arange(PRODUCTS)], axis=1)
    scale = float(np.percentile(np.abs(weight), 99))
    group = ProductGroup("random", "linear", 0, weight, inputs, inputs @ weight.T, positions, scale)
    write_workload(path, [group], {"model": "random", "text": "none", "seed": 7})


@contextmanager
def served(environment: dict[str, str], station: Path, here: Path) -> Iterator[Path]:
    """``labctl mock serve``; the station file of its other side."""
    other = here / "served.toml"
    command = [sys.executable, "-m", "labctl", "mock", "serve", "--bench", str(station), "--write-station", str(other)]
    command += ["--display-output", "DUMMY1", "--slm-output", "DUMMY2", "--laser-link", str(here / "laser")]
    with subprocess.Popen(
        [*command, "--meter-port", "0"], stdout=subprocess.DEVNULL, env=environment, cwd=Path(__file__).parents[1]
    ) as process:
        try:
            end_s = time.monotonic() + START_S
            while not other.exists() and process.poll() is None and time.monotonic() < end_s:
                time.sleep(0.1)
            if not other.exists():
                raise SystemExit("labctl mock serve did not start")
            yield other
        finally:
            process.terminate()


def figures(quick: bool) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        station, products = here / "station.toml", here / "products.h5"
        station.write_text(SMALL if quick else "[mock]\n")
        write_products(products)
        mock = load_station(station).station
        panels = [(mock_shape(mock.mock, role)) for role in ("display", "slm")]
        with DummyX([DESKTOP, *panels]) as screen:
            environment = {**os.environ, **screen.environment}
            alone = measure(environment, station, products, here)
            seeds = [measure(environment, station, products, here, f"mock.seed={seed}") for seed in CONTROLS]
            with served(environment, station, here) as other:
                over = measure(environment, other, products, here)
            compared, *controls = (
                labctl(environment, "calib", "diff", alone.calibration, run.calibration) for run in (over, *seeds)
            )
    return [*_agreement(compared, controls), *_summaries(alone, over), *_speed(alone, over)]


def mock_shape(mock: dict[str, Any], role: str) -> tuple[int, int]:
    """(columns, rows) of a panel."""
    panel = getattr(parse(mock), role)
    return panel.cols, panel.rows


def _agreement(compared: dict[str, Any], controls: list[dict[str, Any]]) -> list[Figure]:
    """χ² per parameter of each family of the calibration, its mean difference, and whether anything has changed.

    A family of which another seed in the process is called changed, too, has stated errors that are too small: it is
    shown, and nothing is concluded from it.
    """
    found, changed = [], []
    for family in compared["families"]:
        name = family["name"]
        strange = sum(name in control["changed"] for control in controls)
        if family["changed"] and not strange:
            changed.append(name)
        what = f"{name}: χ² per parameter ({family['parameters']:,}), p {family['p']:.2g}"
        what += f"; changed by {strange} of {len(controls)} other seeds, too" if strange else ""
        reached = None if strange and family["changed"] else not family["changed"]
        found.append(figure(what, family["chi2_per_dof"], "1", "unchanged at p 0.001", reached))
        found.append(figure(f"{name}: difference of the means in standard errors", family["z"], "1"))
    words = f"families that protocols change{': ' if changed else ''}{', '.join(changed)}"
    return [figure(words, len(changed), "1", "0", not changed), *found]


def _summaries(alone: Measured, over: Measured) -> list[Figure]:
    """What both summaries say, one after the other."""
    found = []
    for where, run in (("in process", alone), ("over protocols", over)):
        summary = run.summary
        found.append(figure(f"{where}: verdict {summary['verdict']}, exit code", summary["exit_code"], "1", "0",
                            summary["exit_code"] == 0))  # fmt: skip
        for metric in summary["metrics"]:
            if metric["stderr"] is not None:
                error = f" ± {metric['stderr']:.2g}"
                found.append(figure(f"{where}: {metric['name']}{error}", metric["value"], metric["unit"]))
        validation = summary["validation"]
        for name in ("chi2_per_dof", "coverage95", "nrmse"):
            found.append(figure(f"{where}: {name} of held-out products", validation[name], "1"))
    return found


def _speed(alone: Measured, over: Measured) -> list[Figure]:
    """Exposures a second, settling included, and of the served bench as a share of what its camera could do."""
    found, rates = [], []
    for where, run in (("in process", alone), ("over protocols", over)):
        rates.append(run.exposures / run.acquiring_s)
        found.append(figure(f"{where}: exposures, settling included", run.exposures, "1"))
        found.append(figure(f"{where}: exposures a second, analysis included", rates[-1], "Hz"))
        found.append(figure(f"{where}: whole run", run.wall_s, "s"))
    found.append(figure("over protocols: share of the camera's frame rate", rates[1] / FRAMES_HZ, "1"))
    return found


def main() -> None:
    options = parser(__doc__).parse_args()
    show("served_loop", lambda: figures(options.quick), options.json)


if __name__ == "__main__":
    main()
