"""Training with a real bench in the loop: one layer's products are measured at every step, the rest is digital.

The bench computes what goes forward, the model's gradient goes back (`simulation.training.physical`). A batch of B
windows of T tokens is B·T products of four passes, so this is for small batches and one layer: a demonstration on slow
optics, and the interface that a fast bench would use.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calibration.frames.products import ProductGroup
from calibration.frames.schedule import assemble, schedule
from groundwork.nearest import did_you_mean
from labctl.engine.policy import measured
from labctl.engine.session import open_session
from labctl.engine.walk import Walk
from labctl.errors import UsageError
from labctl.lab import Lab
from labctl.nodes.analysis import analysis_of
from labctl.nodes.evidence import Evidence
from labctl.nodes.registry import MACHINE
from labctl.nodes.validation import product_steps
from labctl.station.loading import LoadedStation
from simulation.conversion.quantise import LINEAR_CLIP, clip_scale
from simulation.models.gpt import GPT
from simulation.training.physical import PhysicalLinear, make_physical, put_in_light

KIND = "training"
"""Of the segments in the run: no product of a workload."""


class BenchForward:
    """The `simulation.training.forward.Forward` whose one layer runs on an open bench while it trains.

    Held-out evaluation stays digital: it would take the bench hours.

    Parameters
    ----------
    walk
        Over the nodes of the open bench; what is read is sealed in its run.
    layer
        Name of a linear layer.
    """

    def __init__(self, walk: Walk, layer: str) -> None:
        self.walk, self.layer = walk, layer

    def describe(self) -> dict[str, Any]:
        return {"kind": "bench", "layer": self.layer}

    def prepare(self, model: GPT, windows: Tensor, generator: torch.Generator) -> None:
        """Physical modules everywhere.

        Raises
        ------
        UsageError
            When the model has no linear layer of that name.
        """
        make_physical(model)
        names = [name for name, module in model.named_modules() if isinstance(module, PhysicalLinear)]
        if self.layer not in names:
            raise UsageError(
                "the model has no such linear layer", seen=self.layer, expected=", ".join(names[:6]) + " …",
                hint=did_you_mean(self.layer, names),
            )  # fmt: skip

    def renew(self, model: GPT, generator: torch.Generator) -> None:
        """The weights are shown as they are when the layer is called."""
        module = model.get_submodule(self.layer)
        assert isinstance(module, PhysicalLinear)
        put_in_light(model, {self.layer: lambda x: self._forward(module, x)})

    def record(self, model: GPT) -> dict[str, Any]:
        assert self.walk.acquirer is not None
        return {"run": self.walk.acquirer.run.run_id}

    def _forward(self, module: PhysicalLinear, x: Tensor) -> Tensor:
        """(…, K) to (…, M) as the bench reads it."""
        weight = module.weight.detach()
        exact = torch.nn.functional.linear(x, weight)
        if not module.training:
            return exact if module.bias is None else exact + module.bias
        vectors = x.reshape(-1, x.shape[-1]).numpy()
        group = ProductGroup(
            name=self.layer,
            operation="linear",
            block=0,
            weight=weight.numpy(),
            inputs=vectors,
            outputs=exact.reshape(-1, exact.shape[-1]).numpy(),
            positions=np.stack([np.zeros(len(vectors), np.int64), np.arange(len(vectors))], axis=1),
            weight_scale=float(clip_scale(weight, LINEAR_CLIP)),
        )
        analysis, evidence = analysis_of(self.walk.results), Evidence()
        machine, geometry = analysis.machine, analysis.geometry
        steps = product_steps(schedule(machine, [group]), geometry.place, self.walk.setting, KIND)
        evidence.add([self.walk.segment(step) for step in steps])
        clean = [(tile, readings.minus(geometry.dark_dn)) for tile, readings in evidence.tiles]
        y = assemble(machine, group, 0, clean).measured * group.weight_scale * group.input_scales[:, None]
        measured = torch.from_numpy(y.astype(np.float32)).reshape(exact.shape)
        return measured if module.bias is None else measured + module.bias


@contextmanager
def bench_forward(lab: Lab, loaded: LoadedStation, runs: Path, layer: str) -> Iterator[BenchForward]:
    """Open and calibrate a bench, train on it inside the block, and seal the run; the bench is left safe."""
    with open_session(lab, loaded, runs, "train") as session:
        with session.pace.stopping_gently(), session.acquirer() as acquirer:
            yield BenchForward(session.walk_on(acquirer, measured([MACHINE])), layer)
        session.conclude()
