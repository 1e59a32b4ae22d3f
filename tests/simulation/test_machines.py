"""Published machines: every number has a source, and each multiplies."""

import numpy as np
import pytest
import torch
from torch import nn

from calibration.errors import OutOfDomain
from simulation.benches.families import family
from simulation.benches.machines import MACHINES
from simulation.conversion.optical import optical_report, opticalize


@pytest.mark.parametrize("name", MACHINES)
def test_every_number_has_a_source(name):
    machine = MACHINES[name]
    assert machine.name == name
    assert machine.words
    assert machine.facts
    for fact in machine.facts:
        assert fact.value
        assert fact.source
        assert not (fact.verified and fact.source.startswith("ours"))  # nobody can read there what we assume
    assert family(machine.family).words


@pytest.mark.parametrize("name", MACHINES)
def test_a_model_runs_on_it(name):
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(30, 50)), torch.randn(64, 30)
    y, exact = opticalize(model, name)(x).detach(), model(x).detach()
    error = float((y - exact).std() / exact.std())
    coarsest = {"lightening-transformer-2024-4bit": 0.25}.get(name, 0.12)
    assert 0 < error < coarsest


def test_netcast_errs_as_it_was_measured():
    """0.50 % of the range −1 … 1, for every product of two numbers."""
    layer, inputs = nn.Linear(4, 200, bias=False), 4
    x = torch.ones(500, inputs)
    optical = opticalize(nn.Sequential(layer), "netcast-2022")
    scale = float(np.quantile(layer.weight.abs().detach().numpy(), 0.99, method="inverted_cdf"))
    error = (optical(x) - (x @ layer.weight.clamp(-scale, scale).T)).std() / scale
    assert float(error.detach()) == pytest.approx(0.005 * 2 * np.sqrt(inputs), rel=0.02)


def test_tiles_are_those_of_the_publication():
    model = nn.Sequential(nn.Linear(24, 36))
    optical = opticalize(model, "lightening-transformer-2024-8bit", photons_per_mac=1e3)
    optical(torch.randn(1, 24))
    total = optical_report(optical).total
    assert (total.frames, total.input_conversions, total.output_conversions) == (2 * 3, 24 * 3, 36 * 2)


def test_light_that_was_not_published_cannot_be_changed():
    with pytest.raises(OutOfDomain, match="light of this machine is not published"):
        opticalize(nn.Linear(3, 3), "netcast-2022", photons_per_mac=10.0)
