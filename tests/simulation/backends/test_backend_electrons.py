"""Electrons of the tally against a count of every pass by itself, at little and at much light."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from calibration.machine.encoding import encoding
from simulation.conversion.optical import optical_report, opticalize
from simulation.light.optics import Optics, ideal, paper

INPUTS, OUTPUTS = 64, 20
BENCHES = {
    "ideal": ideal(),
    "paper": paper(),
    "offset": replace(ideal(), encoding=encoding("offset")),
    "paper, offset": replace(paper(), encoding=encoding("offset"), per_pass=False),
}


def vectors(kind: str) -> NDArray[np.float64]:
    x = np.random.default_rng(0).standard_normal((3, INPUTS))
    if kind == "few negative":
        x = np.abs(x)
        x[:, :3] *= -0.1
    return x**3 if kind == "outliers" else x


def electrons(optics: Optics, weight: NDArray[np.float64], x: NDArray[np.float64], photons_per_mac: float) -> float:
    """Of one vector: each input pass by each weight pass, element by element."""
    full = np.percentile(np.abs(weight), optics.clip[0], method="inverted_cdf")
    slm = [
        optics.slm.show(part.astype(np.float32)) for part in optics.encoding.split_weight(np.clip(weight / full, -1, 1))
    ]
    if len(optics.encoding.input_factors) == 1:
        shown = [optics.display.show(optics.encoding.split_input(x / np.abs(x).max())[0].astype(np.float32))]
    else:
        signs = [part for part in (np.maximum(x, 0), np.maximum(-x, 0)) if part.any()]
        scales = [part.max() if optics.per_pass else np.abs(x).max() for part in signs]
        shown = [
            optics.display.show((part / scale).astype(np.float32)) for part, scale in zip(signs, scales, strict=True)
        ]
    mean = np.mean([part.mean() for part in shown])  # with a light of its own every pass has the stated photons
    of_pass = [photons_per_mac / float(part.mean() if optics.per_pass else mean) for part in shown]
    return sum(float((panel * part).sum()) * n for panel in slm for part, n in zip(shown, of_pass, strict=True))


@pytest.mark.parametrize("backend", ["compiled", "torch"])
@pytest.mark.parametrize("kind", ["normal", "few negative", "outliers"])
@pytest.mark.parametrize("name", BENCHES)
def test_electrons_are_those_of_all_passes(name: str, kind: str, backend: str) -> None:
    optics = BENCHES[name]
    layer = nn.Linear(INPUTS, OUTPUTS, bias=False)
    weight = np.random.default_rng(1).standard_normal((OUTPUTS, INPUTS))
    layer.weight = nn.Parameter(torch.from_numpy(weight).float())
    for x in vectors(kind):
        for photons in (1.0, 100.0, 10_000.0):
            model = opticalize(nn.Sequential(layer), optics, photons_per_mac=photons, backend=backend)  # type: ignore[arg-type]
            model(torch.from_numpy(x[None]).float())
            expected = electrons(optics, weight, x, photons)
            # at little light single counts are drawn
            scatter = 6 * expected**-0.5
            assert optical_report(model).total.electrons == pytest.approx(expected, rel=3e-3 + scatter)


@pytest.mark.parametrize("backend", ["compiled", "torch"])
def test_cheaper_variances_count_by_the_mean_light(backend: str) -> None:
    optics, x = BENCHES["paper"], vectors("few negative")[0]
    layer = nn.Linear(INPUTS, OUTPUTS, bias=False)
    for variance in ("rank-one", "constant"):
        model = opticalize(nn.Sequential(layer), optics, photons_per_mac=1000.0, variance=variance, backend=backend)  # type: ignore[arg-type]
        model(torch.from_numpy(x[None]).float())
        expected = electrons(optics, layer.weight.detach().double().numpy(), x, 1000.0)
        assert optical_report(model).total.electrons == pytest.approx(expected, rel=0.15)
