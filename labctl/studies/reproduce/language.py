"""What light, its noise and few bits do to the perplexity of a family of widths."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.studies.reproduce.form import Form
from labctl.studies.scaling import Member, Plan, assemble, load_members, scale
from labctl.studies.second_order import SecondOrder, cost_of
from labctl.studies.simulate import Setting
from labctl.studies.sweep import Compute, sweep
from labctl.studies.train import recipe_from, train_to
from simulation.conversion.optical import opticalize
from simulation.conversion.quantise import quantise_int8
from simulation.evaluation.perplexity import window_nats
from simulation.light.coarse import Bits
from simulation.light.optics import ideal
from simulation.models.checkpoint import load_checkpoint
from simulation.models.text import load_texts
from simulation.scaling.points import PointStore
from simulation.scaling.requirement import Sweep, interval, resample
from simulation.training.qat import QuantisedForward

Told = Callable[[int], None]
TOLERANCES = (0.01, 0.05)
CLIP = 99.0
"""Percentile of weights that full scale stands for while models run with few bits: that of the article."""


def light(form: Form, models: Sequence[Path], folder: Path, compute: Compute, advance: Told) -> dict[str, Any]:
    """Perplexity against photons with shot noise alone, photons for the 8-bit level, and the second order behind it."""
    members = load_members(models, None, form.tokens_for_law)
    plan = Plan(members, "ideal", form.photons, form.seeds, form.tokens_for_law, TOLERANCES)
    found = scale(plan, PointStore(folder), compute, advance)
    theory = found.second_order
    assert theory is not None  # of a preset with nothing but shot noise
    return {
        "widths": found.document()["widths"],
        "laws": found.document()["laws"],
        "second_order": [
            {"width": width, "kl": each.total.kl, "kl_stderr": each.total.kl_stderr,
             "ffn": _kind(each, "ffn"), "qkvo": _kind(each, "qkvo"), "qk": _kind(each, "qk"), "av": _kind(each, "av"),
             "less_light_with_a_budget": each.gain_of_budget}
            for width, each in zip(theory.widths, theory.expansions, strict=True)
        ],
        "trends": _trends(theory),
        "text": members[0].text.name,
        "tokens": int(found.sweeps[0].tokens.sum()),
    }  # fmt: skip


def _kind(found: Any, kind: Any) -> float | None:
    cost = cost_of(found, kind)
    return None if cost is None else cost.kl


def _trends(found: SecondOrder) -> list[dict[str, Any]]:
    return [
        {"kind": t.kind, "metric": t.metric, "reason": t.reason, **({} if t.law is None else vars(t.law))}
        for t in found.trends
    ]


def on_paper(form: Form, models: Sequence[Path], folder: Path, compute: Compute, advance: Told) -> dict[str, Any]:
    """Perplexity in float, with 8 bits, and on the article's machine at each light level."""
    members = load_members(models, None, form.tokens)
    plan = Plan(members, "paper", form.photons_on_paper, form.seeds, form.tokens, TOLERANCES)
    wanted = {member.width: list(plan.points(member)) for member in members}
    everything = [point for member in reversed(members) for point in wanted[member.width]]
    known, _ = sweep(plan.material(), everything, PointStore(folder), compute, advance)
    sweeps = [assemble(plan, member, wanted[member.width], known) for member in members]
    return {"widths": [_on_paper(each) for each in sweeps], "text": members[0].text.name}


def _on_paper(found: Sweep) -> dict[str, Any]:
    draws = resample(found, 1000, np.random.default_rng(0), np.random.default_rng(1))
    low, high = interval(np.exp(draws.excess(found)))
    return {
        "width": found.width,
        "digital": found.reference("digital"),
        "int8": found.reference(),
        "curve": [
            {"photons_per_mac": n, "perplexity": p, "over_int8": math.exp(above), "low": a, "high": b}
            for n, p, above, a, b in zip(found.photons, found.perplexity, found.excess(), low, high, strict=True)
        ],
    }


def few_bits(form: Form, models: Sequence[Path], folder: Path, advance: Told) -> dict[str, Any]:
    """Perplexity with so many bits of inputs, weights and outputs, without shot noise, over that of 8 digital bits."""
    rows = []
    for member in load_members(models, None, form.tokens):
        base = _nats(quantise_int8(member.language.model), member)
        rows += [_row(member, member.language.model, bits, "float", base) for bits in form.bits]
        for bits in form.trained_bits:
            path = _trained(member, bits, folder)
            model = load_checkpoint(path).model
            rows.append(_row(member, model, bits, f"{bits} bits", base))
        advance(1)
    return {"rows": rows, "clip": CLIP}


def _row(member: Member, model: Any, bits: int, trained: str, base: tuple[Any, Any]) -> dict[str, Any]:
    setting = Setting(bits=Bits(bits, bits, bits))
    bench = setting.bits.on(replace(ideal(), clip=(CLIP, 98.0))) if setting.bits else ideal()
    context = member.language.context
    ranges = setting.ranges(model, member.text.ids, context)
    nats, tokens = _nats(opticalize(model, bench, ranges=ranges), member)
    ratio, low, high = ratio_of(nats, base[0], tokens)
    return {
        "width": member.width,
        "trained": trained,
        "bits": bits,
        "perplexity": float(np.exp(nats.sum() / tokens.sum())),
        "over_int8": ratio,
        "low": low,
        "high": high,
    }


def _nats(model: Any, member: Member) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    nats, tokens = window_nats(model, member.text.ids, context=member.language.context)
    return nats.numpy(), tokens.numpy()


def ratio_of(
    nats: NDArray[np.float64], base: NDArray[np.float64], tokens: NDArray[np.float64]
) -> tuple[float, float, float]:
    """Perplexity over another one on the same windows, and its 95 % interval from the scatter between them."""
    above, n = nats - base, len(nats)
    mean = above.sum() / tokens.sum()
    spread = math.sqrt(np.square(above - mean * tokens).sum() * n / (n - 1)) / tokens.sum() if n > 1 else math.nan
    return math.exp(mean), math.exp(mean - 1.96 * spread), math.exp(mean + 1.96 * spread)


def _trained(member: Member, bits: int, folder: Path) -> Path:
    """The model trained on with so many bits; a training that was stopped goes on."""
    output = folder / f"optical-gpt-d{member.width}-{bits}bit.safetensors"
    if not output.exists():
        folder.mkdir(parents=True, exist_ok=True)
        start = load_checkpoint(member.path)
        forward = QuantisedForward(bits=Bits(bits, bits, bits))
        train_to(output, recipe_from(start), load_texts([]), start=start, forward=forward, progress=lambda _: None)
    return output
