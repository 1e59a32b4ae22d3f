"""What does light cost on a device, over the same model's digital products there? CUDA if it is there, else the CPU.

The goals are those of one data-centre GPU, in bfloat16 with 4,096 tokens: exact shot noise at most 1.5 times the
digital product 768→3072, a model of SmolLM2-135M's shape at most twice its digital forward, memory at most 15 % more.
On the CPU the same runs with few tokens and few layers, to see that it does; its figures have no goal.
aihwkit-lightning runs beside it where it is installed. Every contestant runs once per round, and ratios are taken
within a round.

    python benchmarks/device.py [--device cuda] [--json] [--quick]
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from _common import Figure, figure, parser, show
from torch import Tensor, nn

from simulation.conversion.optical import opticalize
from simulation.light.tensors.devices import device_of

PHOTONS_PER_MAC = 1000.0
GOALS = {"768→3072": 1.5, "model": 2.0, "memory": 15.0}

Contestants = dict[str, Callable[[], object]]


@dataclass(frozen=True)
class Load:
    """How much is computed, and where."""

    device: torch.device
    dtype: torch.dtype
    tokens: int
    layers: int
    vocabulary: int
    rounds: int

    @classmethod
    def on(cls, device: torch.device, quick: bool) -> Load:
        if device.type == "cuda":
            return cls(device, torch.bfloat16, 4096, 30, 49152, 5 if quick else 20)
        return cls(device, torch.float32, 64, 1, 512, 1 if quick else 5)

    @property
    def is_judged(self) -> bool:
        return self.device.type == "cuda"

    def goal(self, ratio: float, name: str) -> dict[str, Any]:
        """Arguments of `figure`."""
        if not self.is_judged:
            return {}
        return {"goal": f"≤ {GOALS[name]:g}", "reached": ratio <= GOALS[name]}


class Block(nn.Module):
    """Of a Llama: grouped attention and a gated feed-forward; without rotary embedding, which is no product."""

    def __init__(self, width: int, heads: int, shared: int, inner: int) -> None:
        super().__init__()
        self.heads, self.shared, self.each = heads, shared, width // heads
        self.q, self.o = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.k, self.v = (nn.Linear(width, shared * self.each, bias=False) for _ in range(2))
        self.gate, self.up = (nn.Linear(width, inner, bias=False) for _ in range(2))
        self.down = nn.Linear(inner, width, bias=False)
        self.first, self.second = nn.RMSNorm(width), nn.RMSNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        h = self.first(x)
        q, k, v = (each(h).view(batch, length, -1, self.each).transpose(1, 2) for each in (self.q, self.k, self.v))
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.o(y.transpose(1, 2).reshape(batch, length, width))
        h = self.second(x)
        return x + self.down(nn.functional.silu(self.gate(h)) * self.up(h))


class Small(nn.Module):
    """The shape of SmolLM2-135M, with random weights; the head is the table of embeddings and stays digital."""

    def __init__(self, layers: int, vocabulary: int) -> None:
        super().__init__()
        self.table = nn.Embedding(vocabulary, 576)
        self.blocks = nn.ModuleList(Block(576, 9, 3, 1536) for _ in range(layers))
        self.norm, self.head = nn.RMSNorm(576), nn.Linear(576, vocabulary, bias=False)
        self.head.weight = self.table.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.table(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def optical(model: nn.Module, variance: str, backend: str, light: float | None = PHOTONS_PER_MAC) -> nn.Module:
    return opticalize(model, "ideal", photons_per_mac=light, variance=variance, backend=backend)  # type: ignore[arg-type]


def ways(load: Load) -> dict[str, str]:
    """Backends that are compared, by what they are called."""
    found = {"torch": "torch, one operation after the other", "torch-compiled": "torch, compiled kernels"}
    return found if load.is_judged else {"compiled": "compiled loops", "torch": found["torch"]}


def layer_figures(load: Load) -> list[Figure]:
    torch.manual_seed(0)
    linear = nn.Linear(768, 3072, device=load.device, dtype=load.dtype)
    x = torch.randn(load.tokens, 768, device=load.device, dtype=load.dtype)
    contestants: Contestants = {"digital": lambda: linear(x)}
    for backend, words in ways(load).items():
        for variance in ("exact", "rank-one", "constant"):
            converted = optical(nn.Sequential(linear), variance, backend)
            contestants[f"{variance} noise, {words}"] = lambda m=converted: m(x)
    rival = lightning(linear)
    if rival is not None:
        contestants["aihwkit-lightning, output noise"] = lambda: rival(x)
    found = ratios(contestants, load)
    name = "768→3072"
    figures = [figure(f"{name}: digital", found["digital"][1], "ms")]
    for contestant, (ratio, _) in list(found.items())[1:]:
        judged = load.goal(ratio, name) if contestant.startswith("exact") else {}
        figures.append(figure(f"{name}: {contestant}", ratio, "×", **judged))
    if rival is None:
        figures.append(figure(f"{name}: aihwkit-lightning (not installed)", float("nan"), "×"))
    return figures


def model_figures(load: Load) -> list[Figure]:
    torch.manual_seed(0)
    model = Small(load.layers, load.vocabulary).to(load.device, load.dtype).eval()
    ids = torch.randint(load.vocabulary, (max(1, load.tokens // 512), min(512, load.tokens)), device=load.device)
    contestants: Contestants = {"digital": lambda: model(ids)}
    for backend, words in ways(load).items():
        converted = optical(model, "exact", backend)
        contestants[f"exact noise, {words}"] = lambda m=converted: m(ids)
    found = ratios(contestants, load)
    name = f"{load.layers} layers of SmolLM2-135M"
    figures = [figure(f"{name}: digital", found["digital"][1], "ms")]
    for contestant, (ratio, _) in list(found.items())[1:]:
        figures.append(figure(f"{name}: {contestant}", ratio, "×", **load.goal(ratio, "model")))
    return figures + memory_figures(load, model, ids)


def memory_figures(load: Load, model: nn.Module, ids: Tensor) -> list[Figure]:
    """Peak memory of a forward on the device, weights included, over that of the digital one."""
    if load.device.type != "cuda":
        return []
    digital = peak_bytes(lambda: model(ids))
    figures = [figure("memory: digital", digital / 2**20, "MiB")]
    for variance in ("exact", "rank-one"):
        converted = optical(model, variance, "torch")
        more = 100 * (peak_bytes(lambda m=converted: m(ids)) / digital - 1)
        figures.append(figure(f"memory: {variance} noise", more, "% more", **load.goal(more, "memory")))
        del converted
    return figures


def peak_bytes(run: Callable[[], object]) -> int:
    with torch.inference_mode():
        run()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        run()
        torch.cuda.synchronize()
    return int(torch.cuda.max_memory_allocated())


def lightning(linear: nn.Linear) -> nn.Module | None:
    """aihwkit-lightning's layer with 8-bit inputs and outputs and output noise; None if it is not installed."""
    try:
        from aihwkit_lightning.nn import AnalogLinear
        from aihwkit_lightning.simulator.configs import TorchInferenceRPUConfig
    except ImportError:
        return None
    config = TorchInferenceRPUConfig()
    config.pre_post.input_range.enable = True
    config.pre_post.input_range.init_value = 3.0
    config.pre_post.input_range.init_from_data = 0
    config.forward.inp_res = config.forward.out_res = 254
    config.forward.out_bound, config.forward.out_noise = 10.0, 0.04
    return AnalogLinear.from_digital(linear, config).to(linear.weight).train()  # in eval() it draws no noise


def ratios(contestants: Contestants, load: Load) -> dict[str, tuple[float, float]]:
    """Median ratio to the first within a round, and median time [ms]."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    with torch.inference_mode():
        for run in contestants.values():
            run()  # compiled, and shown
        for _ in range(load.rounds):
            for name, run in contestants.items():
                times[name].append(elapsed_ms(run, load.device))
    first = torch.tensor(next(iter(times.values())))
    return {
        name: (float((torch.tensor(each) / first).median()), float(torch.tensor(each).median()))
        for name, each in times.items()
    }


def elapsed_ms(run: Callable[[], object], device: torch.device) -> float:
    """Of one call, with everything that it started on the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return 1e3 * (time.perf_counter() - began)


def where(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}, CUDA {torch.version.cuda}"
    threads = torch.get_num_threads()
    return f"{device}, {threads} threads, torch {torch.__version__}; a smoke test, its figures have no goal"


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="torch's name of it"
    )
    options = arguments.parse_args()
    device = device_of(options.device)
    load = Load.on(device, options.quick)
    if not options.json:
        print(where(device))
    well = show(f"device: {where(device)}", lambda: [*layer_figures(load), *model_figures(load)], options.json)
    raise SystemExit(0 if well else 1)


if __name__ == "__main__":
    main()
