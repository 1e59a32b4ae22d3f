"""Whole models in light: a Transformer of 135 million parameters that reads and writes, and one that is trained."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from _simulated import Contestants, Figure, bench, figure, ratios
from torch import nn

from simulation.conversion.optical import opticalize
from simulation.models.gpt import GPT, GPTConfig
from simulation.training.physical import CalibratedForward

PHOTONS_PER_MAC = 100.0
READING, WRITING, TRAINING = 2.0, 2.5, 2.5  # goals, times the digital model
TOKENS = 256


def decoding_figures(rounds: int) -> list[Figure]:
    """A Llama of SmolLM2-135M's shape, all of it but the head on the calibrated bench, attention included."""
    try:
        from transformers import LlamaConfig, LlamaForCausalLM
    except ImportError:
        return [figure("135M Llama (transformers cannot be imported)", math.nan, "×")]
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3,
        vocab_size=49152, tie_word_embeddings=True,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data = torch.randn(576).exp()  # some channels stand out, as they do in trained models
    optical = opticalize(model, bench(), photons_per_mac=PHOTONS_PER_MAC)
    ids = torch.randint(3, 1000, (1, TOKENS))
    contestants: Contestants = {"digital": lambda: model(ids), "exact noise": lambda: optical(ids)}
    name, figures = "135M Llama", []
    for what, goal, found in (
        (f"reads {TOKENS} tokens", READING, ratios(contestants, max(3, rounds // 3))),
        ("writes a token", WRITING, ratios({"digital": writes(model), "exact noise": writes(optical)}, rounds)),
    ):
        figures.append(figure(f"{name} {what}: digital", found["digital"][1], "ms"))
        figures.append(figure(f"{name} {what}: exact noise, bench", found["exact noise"][0], "×", goal))
    return figures


def writes(model: nn.Module) -> Callable[[], object]:
    """One step of decoding after another, from 64 tokens on: attention's matrices have another shape at each."""
    ids = torch.randint(3, 1000, (1, 65), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        cache = model(ids[:, :64], use_cache=True).past_key_values

    def step() -> None:
        model(ids[:, 64:], past_key_values=cache, use_cache=True)

    return step


def training_figures(rounds: int) -> list[Figure]:
    """Steps of a small GPT whose products come from light, with fresh noise and weights shown anew at each."""
    found = ratios(
        {"digital": steps(None), "paper's preset": steps("paper"), "calibrated bench": steps(bench())},
        rounds,
        train=True,
    )
    return [figure("training step, d = 128: digital", found["digital"][1], "ms")] + [
        figure(f"training step, d = 128: {name}", ratio, "×", TRAINING)
        for name, (ratio, _) in found.items()
        if name != "digital"
    ]


def steps(source: object) -> Callable[[], object]:
    """A step of training on a bench, or a digital one if None."""
    generator = torch.Generator().manual_seed(0)
    model = GPT(GPTConfig(vocabulary=256), generator)
    windows = torch.randint(256, (16, 129), generator=generator)
    forward = None if source is None else CalibratedForward(source, PHOTONS_PER_MAC)  # type: ignore[arg-type]
    if forward is not None:
        forward.prepare(model, windows, generator)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-4)

    def step() -> None:
        if forward is not None:
            forward.renew(model, generator)
        logits = model(windows[:, :-1])
        optimiser.zero_grad()
        nn.functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten()).backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return step
