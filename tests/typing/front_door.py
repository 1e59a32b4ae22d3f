"""What a type checker must say about ``import labctl``; checked by mypy, never run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, assert_type

import numpy as np
import torch
from torch import nn

import labctl
import simulation
from calibration.machine.artefact import Calibration
from calibration.response.fit import ResponseFit
from calibration.response.model import Response
from calibration.response.predict import Prediction
from labctl.archive.reader import RunReader
from labctl.doors.bluesky_bench import BlueskyBench
from labctl.doors.slmsuite import SlmsuitePair
from labctl.station.loading import LoadedStation
from labctl.studies.adapt import Adaptation
from labctl.summary import Summary

calibration = labctl.load_calibration("bench.calib.h5")
assert_type(calibration, Calibration | Response)

model = nn.Linear(16, 8)
optical = labctl.opticalize(model, calibration, photons_per_mac=100.0, seed=1, keep=("lm_head",))
assert_type(optical, nn.Linear)
assert_type(labctl.opticalize(model, "paper"), nn.Linear)
assert_type(labctl.opticalize(model, Path("bench.calib.h5"), keep="lm_head"), nn.Linear)
assert_type(labctl.opticalize(model, "ideal", encoding="offset", clip=100.0, bits=(4, 4, 8)), nn.Linear)
assert_type(labctl.optical_report(optical).total.photons_per_mac, float)

run = labctl.open_run("latest", Path("runs"))
assert_type(run, RunReader)
assert_type(run.summary(), Summary | None)
assert_type(labctl.report_run(run), Path)
assert_type(labctl.demo("bench.toml", per_layer=8), RunReader)
assert_type(labctl.measure("products.h5"), RunReader)
assert_type(labctl.calibrate("maintain", bench=Path("bench.toml")), RunReader)
assert_type(labctl.command("run", "list"), dict[str, Any])

loaded = labctl.load_station("bench.toml", ["layout.rows=64"])
assert_type(loaded, LoadedStation)
assert_type(loaded.station, labctl.Station)
assert_type(labctl.read_workload("products.h5"), labctl.Workload)

inputs, weights, readings = (np.zeros(shape) for shape in ((400, 12), (4, 12), (400, 4)))
found = labctl.fit(inputs, weights, readings, unit="DN")
assert_type(found, ResponseFit)
assert_type(labctl.predict(found.response, inputs), Prediction)

opened = labctl.load_language("model.gguf")
assert_type(opened, simulation.Language)
assert_type(labctl.perplexity(opened.model, opened.encode("light"), context=8), simulation.Perplexity)
assert_type(labctl.adapt("model.gguf", "paper", "adapted", texts=["my.txt"]), Adaptation)

with labctl.as_bluesky("bench.toml") as bench:
    assert_type(bench, BlueskyBench)

language = simulation.GPT(simulation.GPTConfig(vocabulary=300))
assert_type(simulation.perplexity(language, torch.zeros(100), context=64), simulation.Perplexity)

with labctl.as_slmsuite("bench.toml", "display", camera_options={"averaging": 2}) as pair:
    assert_type(pair, SlmsuitePair)
labctl.as_slmsuite(loaded.station, slm_options={"pitch_um": 6.4}).close()
labctl.as_slmsuite(3)  # type: ignore[arg-type]
labctl.as_micromanager(loaded, settle_frames=2)
assert_type(labctl.as_aihwkit(model, "paper", torch.rand(5, 16), photons_per_mac=10.0), nn.Module)

_ = labctl.opticalise  # type: ignore[attr-defined]  # a name that is not there is an error, not Any
labctl.open_run(3)  # type: ignore[arg-type]
simulation.ideal("x")  # type: ignore[call-arg]
