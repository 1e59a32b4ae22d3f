"""What does simulating light cost over the plain matrix product, and what do other simulators cost beside it?

In one run: `torch.nn.functional.linear`, our layer at three depths of noise on the paper's preset and on a calibrated
bench, the physical passes one by one (4 matmuls and 4 Poisson draws), and whichever of aihwkit, aihwkit-lightning and
AnalogVNN is installed, with their 8-bit inputs and outputs and output noise; then a small GPT with all its linear
layers converted by each; a Transformer of 135 million parameters with its attention in light, and a step of training.
With --rivals the others are installed first, in an environment of their own in the user's cache. One thread and
processor time, or as many as --threads says and the time that passes; every contestant once per round and each ratio
taken within its round, so that whatever else the machine does falls on all alike. Medians; the load before and after is
reported. The goals are those of one thread.

    python benchmarks/simulate.py [--json] [--quick] [--rounds 25] [--threads 1] [--rivals]
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import platform
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from _rivals import interpreter_with_rivals
from _simulated import Contestants, Figure, bench, figure, ratios
from _simulated_models import decoding_figures, training_figures
from torch import Tensor, nn
from torch.nn import functional

from calibration.machine.artefact import Calibration
from simulation.conversion.optical import opticalize
from simulation.conversion.ranges import Ranges
from simulation.light.settings import VARIANCES

TOKENS = 512
LAYERS = {(768, 768): (1.8, 1.5, 1.45), (768, 3072): (1.6, 1.4, 1.4)}  # goals: exact, rank-one, constant
MEMORY_MIB = {(768, 768): 10.0, (768, 3072): 32.0}
MODEL_GOALS = 2.0, 1.6, 1.5
PHOTONS_PER_MAC = 10.0


def ours(module: nn.Module, source: Calibration | str, variance: str, ranges: dict[str, Ranges]) -> nn.Module:
    return opticalize(module, source, photons_per_mac=PHOTONS_PER_MAC, variance=variance, ranges=ranges)  # type: ignore[arg-type]


def passes(linear: nn.Linear) -> Callable[[Tensor], Tensor]:
    """The four passes as the bench makes them: a matmul and a Poisson draw for each."""
    w, b = linear.weight.detach(), linear.bias.detach()
    planes = w.clamp_min(0), (-w).clamp_min(0)

    def forward(x: Tensor) -> Tensor:
        y = b.expand(len(x), -1).clone()
        for i, plane in enumerate(planes):
            for j, part in enumerate((x.clamp_min(0), (-x).clamp_min(0))):
                y += (1 - 2 * (i ^ j)) / 100 * torch.poisson(functional.linear(part, plane) * 100)
        return y

    return forward


def aihwkit(linear: nn.Linear) -> nn.Module:
    from aihwkit.nn import AnalogLinear
    from aihwkit.simulator import configs

    config = configs.TorchInferenceRPUConfig()
    config.mapping.max_input_size = config.mapping.max_output_size = 0
    config.forward.inp_res = config.forward.out_res = 1 / 254
    config.forward.out_noise = 0.04
    config.forward.noise_management = configs.NoiseManagementType.ABS_MAX
    config.forward.bound_management = configs.BoundManagementType.NONE
    return AnalogLinear.from_digital(linear, config).eval()


def lightning(linear: nn.Linear) -> nn.Module:
    from aihwkit_lightning.nn import AnalogLinear
    from aihwkit_lightning.simulator.configs import TorchInferenceRPUConfig

    config = TorchInferenceRPUConfig()
    config.pre_post.input_range.enable = True
    config.pre_post.input_range.init_value = 3.0
    config.pre_post.input_range.init_from_data = 0
    config.forward.inp_res = config.forward.out_res = 254
    config.forward.out_bound, config.forward.out_noise = 10.0, 0.04
    return AnalogLinear.from_digital(linear, config).train()  # in eval() it draws no noise


class _Flat(nn.Module):
    """AnalogVNN takes matrices only."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.reshape(-1, x.shape[-1])).view(*x.shape[:-1], -1)


def analogvnn(linear: nn.Linear) -> nn.Module:
    from analogvnn.nn.Linear import Linear
    from analogvnn.nn.module.FullSequential import FullSequential
    from analogvnn.nn.noise.GaussianNoise import GaussianNoise
    from analogvnn.nn.normalize.Clamp import Clamp
    from analogvnn.nn.precision.ReducePrecision import ReducePrecision

    layer = Linear(linear.in_features, linear.out_features)
    with torch.no_grad():
        layer.weight.copy_(linear.weight)
        layer.bias.copy_(linear.bias)
    precision, noise = ReducePrecision(precision=256), GaussianNoise(leakage=0.5, precision=256)
    layers = FullSequential()
    layers.add_sequence(Clamp(), precision, noise, layer, copy.deepcopy(noise), Clamp(), copy.deepcopy(precision))
    layers.compile()
    return _Flat(layers.train())  # in eval() it draws no noise


OTHERS: dict[str, Callable[[nn.Linear], nn.Module]] = {
    "aihwkit, torch tile": aihwkit,
    "aihwkit-lightning": lightning,
    "AnalogVNN": analogvnn,
}


class Block(nn.Module):
    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.up, self.down = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def forward(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        q, k, v = (
            z.view(b, t, self.heads, d // self.heads).transpose(1, 2) for z in self.qkv(self.norm1(x)).split(d, -1)
        )
        attended = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(attended.transpose(1, 2).reshape(b, t, d))
        return x + self.down(functional.gelu(self.up(self.norm2(x))))


class SmallGPT(nn.Module):
    """6 blocks, d = 384; what the other simulators convert of it is its linear layers, and so do we here."""

    def __init__(self, d: int = 384, blocks: int = 6, vocabulary: int = 256, context: int = 256) -> None:
        super().__init__()
        self.embedding, self.position = nn.Embedding(vocabulary, d), nn.Embedding(context, d)
        self.blocks = nn.ModuleList(Block(d, 6) for _ in range(blocks))
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, vocabulary, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids) + self.position.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def installed(make: Callable[[nn.Linear], nn.Module], linear: nn.Linear) -> nn.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return make(copy.deepcopy(linear))
    except ImportError:
        return None


def layer(shape: tuple[int, int], source: Calibration | str, variance: str) -> tuple[nn.Linear, nn.Module, Tensor]:
    torch.manual_seed(0)
    linear, x = nn.Linear(*shape), torch.randn(TOKENS, shape[0])
    converted = ours(nn.Sequential(linear), source, variance, {"0": Ranges(5.0, 5.0)})
    return linear, converted, x


def layer_figures(shape: tuple[int, int], rounds: int) -> list[Figure]:
    name = f"{shape[0]}→{shape[1]}"
    linear, _, x = layer(shape, "paper", "exact")
    contestants: Contestants = {"F.linear": lambda: linear(x)}
    sources = {"paper's preset": "paper", "calibrated bench": bench()}
    for label, source in sources.items():
        for variance in VARIANCES:
            converted = layer(shape, source, variance)[1]
            contestants[f"{variance} noise, {label}"] = lambda m=converted: m(x)
    one_by_one = passes(linear)
    contestants["pass by pass"] = lambda: one_by_one(x)
    missing = []
    for other, make in OTHERS.items():
        module = installed(make, linear)
        if module is None:
            missing.append(other)
        else:
            contestants[other] = lambda m=module: m(x)
    found = ratios(contestants, rounds)
    goals = dict(zip(VARIANCES, LAYERS[shape], strict=True))
    figures = [figure(f"{name}: F.linear", found["F.linear"][1], "ms")]
    for contestant, (ratio, _) in list(found.items())[1:]:
        figures.append(figure(f"{name}: {contestant}", ratio, "×", goals.get(contestant.split(" noise")[0])))
    figures += [figure(f"{name}: {other} (not installed: --rivals)", math.nan, "×") for other in missing]
    return figures


def model_figures(rounds: int, batch: int) -> list[Figure]:
    torch.manual_seed(0)
    model = SmallGPT().eval()
    ids = torch.randint(256, (batch, 256))
    names = [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and n != "head"]
    digital = ["head", "blocks.[0-9]"]  # a block's own name stands for its attention products
    ranges = {n: Ranges(10.0, 10.0) for n in names}
    contestants: Contestants = {"digital": lambda: model(ids)}
    for variance in VARIANCES:
        converted = opticalize(
            model, "paper", photons_per_mac=PHOTONS_PER_MAC, variance=variance, ranges=ranges, keep=digital
        )
        contestants[f"{variance} noise"] = lambda m=converted: m(ids)
    for other, make in OTHERS.items():
        if installed(make, nn.Linear(8, 8)) is None:
            continue
        theirs = copy.deepcopy(model)
        for n in names:
            converted = installed(make, theirs.get_submodule(n))
            assert converted is not None
            theirs.set_submodule(n, converted)
        contestants[other] = lambda m=theirs: m(ids)
    found = ratios(contestants, rounds)
    goals = dict(zip((f"{v} noise" for v in VARIANCES), MODEL_GOALS, strict=True))
    return [
        figure(f"6-layer GPT, d = 384: {n}", r if n != "digital" else ms, "ms" if n == "digital" else "×", goals.get(n))
        for n, (r, ms) in found.items()
    ]


def memory_figures() -> list[Figure]:
    """Peak resident memory that one forward adds, in a process of its own; Linux only."""
    if not Path("/proc/self/clear_refs").exists():
        return []
    here, figures = Path(__file__).parent, []
    for shape, goal in MEMORY_MIB.items():
        code = f"import simulate; print(simulate.extra_mib({shape}))"
        environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
        child = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=here, env=environment
        )
        figures.append(figure(f"{shape[0]}→{shape[1]}: extra memory", float(child.stdout), "MiB", goal))
    return figures


def extra_mib(shape: tuple[int, int]) -> float:
    """Of one forward with exact noise in this process [MiB]."""
    torch.set_num_threads(1)
    _, converted, x = layer(shape, "paper", "exact")
    with torch.inference_mode():
        converted(x[:8])
        Path("/proc/self/clear_refs").write_text("5")
        before = _status_kib("VmRSS")
        converted(x)
    return (_status_kib("VmHWM") - before) / 1024


def _status_kib(key: str) -> int:
    return int(Path("/proc/self/status").read_text().split(f"{key}:")[1].split()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, for CI")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--rivals", action="store_true", help="install the other simulators, and measure them, too")
    options = parser.parse_args()
    if options.rivals:
        again = [argument for argument in sys.argv[1:] if argument != "--rivals"]
        raise SystemExit(subprocess.run([interpreter_with_rivals(), __file__, *again], check=False).returncode)
    torch.set_num_threads(options.threads)
    rounds = 5 if options.quick else options.rounds
    load: Callable[[], tuple[float, ...]] = getattr(os, "getloadavg", lambda: ())
    machine: dict[str, Any] = {
        "processor": platform.processor() or platform.machine(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": options.threads,
        "load_before": [round(value, 2) for value in load()],
    }
    figures = [f for shape in LAYERS for f in layer_figures(shape, rounds)]
    figures += memory_figures() + model_figures(max(3, rounds // 4), 2 if options.quick else 8)
    figures += decoding_figures(2 if options.quick else 9) + training_figures(2 if options.quick else 7)
    machine["load_after"] = [round(value, 2) for value in load()]
    if options.json:
        print(json.dumps({"name": "simulate", "machine": machine, "figures": figures}, ensure_ascii=False))
        return
    print(f"load: {machine['load_before']} before, {machine['load_after']} after")
    for entry in figures:
        verdict = {True: "reached", False: "MISSED", None: ""}[entry["reached"]]
        print(f"{entry['name']:<55}{entry['value']:>9.2f} {entry['unit']:<4}{entry['goal']:>8}  {verdict}")


if __name__ == "__main__":
    main()
