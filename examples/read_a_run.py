"""Open a run folder, read what the camera read, and plot it: `python read_a_run.py [RUN] [RUNS]`.

Without arguments a small mock bench is calibrated first, which takes half a minute. The figure shows the photon
transfer of the noise scan, variance against mean, one point for each output and pattern; it is written to `run.png`
in the folder that you are in.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import labctl

SMALL = ("layout.rows=32", "layout.columns=32", "mock.slm.rows=256", "mock.slm.cols=320", "mock.display.rows=256",
         "mock.display.cols=320", "mock.camera.rows=310", "mock.camera.cols=380")  # fmt: skip


def plot(name: str, runs: Path) -> None:
    run = labctl.open_run(name, runs)
    print(f"{run.run_id}: {run.status}, intact: {run.verify().intact}")
    for kind in dict.fromkeys(row.kind for row in run.manifest):
        rows = [row.rows for row in run.manifest if row.kind == kind]
        print(f"  {kind:14} {len(rows):4} segments, {sum(rows):5} rows")

    noise = [part.arrays for part in run.segments() if part.attrs.get("scan") == "noise"]
    shown = [np.column_stack([a["slm_levels"].mean((1, 2))[a["slm_index"]], a["display_levels"]]) for a in noise]
    kept = np.concatenate([a["reference"] for a in noise]) == 0  # reference frames stand between the others
    readings, patterns = np.concatenate([a["readings_dn"] for a in noise])[kept], np.concatenate(shown)[kept]
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for pattern in np.unique(patterns, axis=0):
        same = readings[(patterns == pattern).all(axis=1)]
        axes.loglog(same.mean(axis=0), same.var(axis=0, ddof=1), ".", ms=3, color="#1f6fb2")
    axes.set_xlabel("mean reading of an output [DN]")
    axes.set_ylabel("variance between repeats [DN²]")
    FigureCanvasAgg(figure)
    picture = Path("run.png").resolve()
    figure.savefig(picture, dpi=120)
    print(f"{len(readings)} readings of {readings.shape[1]} outputs: {picture}")


def main(name: str = "latest", runs: str = "") -> None:
    with tempfile.TemporaryDirectory() as folder:
        if not runs:
            labctl.calibrate(overrides=SMALL, runs=folder)
        plot(name, Path(runs or folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
