"""Training with the mock bench in the loop: one small layer's products are measured at every step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from labctl.archive import RunReader, find_run
from labctl.console import Console
from labctl.errors import UsageError
from labctl.lab import Lab
from labctl.station.loading import load_station
from labctl.studies.bench_training import KIND, BenchForward, bench_forward
from simulation.models.checkpoint import digest
from simulation.models.gpt import GPT, GPTConfig
from simulation.models.text import Text
from simulation.training.physical import PhysicalLinear
from simulation.training.recipe import TrainingConfig
from simulation.training.train import train

LAYER = "blocks.0.ffn.up"
CONFIG = TrainingConfig(
    width=8, blocks=1, heads=2, context=4, vocabulary=300, steps=2, batch=2, warmup=1, evaluate_every=2
)


@pytest.fixture
def short_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    page = "the light is cheap and the answer is noisy. " * 40
    short = {split: Text(split, page, split) for split in ("train", "heldout")}
    monkeypatch.setattr("simulation.training.train.pydoc_text", short.__getitem__)


def test_measured_products_go_forward_and_are_sealed(small_file: Path, tmp_path: Path, short_reference: None) -> None:
    lab, runs = Lab(Console(quiet=True)), tmp_path / "runs"
    with bench_forward(lab, load_station(small_file), runs, LAYER) as forward:
        model, _, record = train(CONFIG, [], forward=forward)

        probe = GPT(model.config, torch.Generator().manual_seed(1))
        forward.prepare(probe, torch.zeros(1, 5, dtype=torch.long), torch.Generator())
        forward.renew(probe, torch.Generator())
        layer = probe.get_submodule(LAYER)
        assert isinstance(layer, PhysicalLinear)
        x = torch.randn(6, 8, generator=torch.Generator().manual_seed(2))
        exact = torch.nn.functional.linear(x, layer.weight)
        measured = layer(x)
        # Operands are clipped at the 99th percentile of |W|, and the bench reads with about 5 bits: a few per cent.
        error = float((measured - exact).detach().square().mean().sqrt() / exact.detach().std())
        assert 1e-4 < error < 0.15
        assert torch.equal(layer.eval()(x), exact)  # evaluation stays digital

    run = RunReader(find_run(runs, "latest"))
    assert run.status == "ok"
    assert record["forward"]["run"] == run.run_id
    kinds = [row.kind for row in run.manifest]
    assert kinds.count(KIND) >= 3  # two steps and the probe
    assert digest(model) != digest(train(CONFIG, [])[0])  # other gradients than those of exact products


def test_unknown_layer_is_refused_by_name() -> None:
    model = GPT(GPTConfig(vocabulary=300, context=4, width=8, blocks=1, heads=2))
    forward = BenchForward(None, "blocks.0.ffn.down2")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no such linear layer"):
        forward.prepare(model, torch.zeros(1, 5, dtype=torch.long), torch.Generator())
