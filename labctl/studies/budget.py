"""The same total of light for a model, equal for all its products, and shared out by what each of them needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from torch import nn

from calibration.errors import OutOfDomain
from labctl.errors import UsageError
from labctl.studies.second_order import ENCODING, TOKENS, WINDOWS
from labctl.studies.simulate import OWN, Setting, TextTokens, window_of
from labctl.summary import LightBudget, LightOfProduct, LightScore
from simulation.benches.imported import Imported
from simulation.benches.opening import default_encoding, open_bench
from simulation.conversion.asked import OTHERS
from simulation.conversion.optical import optical_report, opticalize
from simulation.evaluation.divergence import divergence
from simulation.light.optics import LEAST_PHOTONS, MOST_PHOTONS, Optics
from simulation.models.language import Language
from simulation.scaling.expansion import Expansion, expand

STEPS = 100
"""Of the progress that `share_out` tells."""


def shareable(bench: Optics | Imported, photons_per_mac: float, encoding: str | None) -> Optics:
    """The bench on which light can be shared out.

    Raises
    ------
    UsageError
        When the mean is not a positive number, or signs become light in another way than four passes.
    OutOfDomain
        When the bench cannot have other light than its own.
    """
    if not LEAST_PHOTONS <= photons_per_mac <= MOST_PHOTONS:
        raise UsageError(
            "a budget is a positive number of photons per MAC",
            expected=f"{LEAST_PHOTONS:g} … {MOST_PHOTONS:g}",
            seen=str(photons_per_mac),
            hint="--budget 30",
        )
    way = encoding or default_encoding(bench)
    if isinstance(bench, Imported):
        raise OutOfDomain(
            "what each product needs is known for shot noise alone, and an imported bench has other noise besides",
            device=bench.name,
            expected="a calibration of a bench that labctl drives, or a preset",
            seen="an import",
            hint="leave out --budget, or: labctl simulate ideal --budget 30",
        )
    if way != ENCODING:
        raise UsageError(
            "how much light each product needs is known for signs in four passes only",
            device=bench.name,
            expected=ENCODING,
            seen=way,
            hint="leave out --budget, or: labctl simulate ideal --budget 30",
        )
    open_bench(bench, photons_per_mac, "exact", encoding=way)
    return bench


def share_out(
    language: Language,
    bench: Optics,
    text: TextTokens,
    photons_per_mac: float,
    *,
    setting: Setting = OWN,
    seed: int = 0,
    context: int | None = None,
    advance: Callable[[int], None] = lambda n: None,
) -> LightBudget:
    """Score a text with equal light, and with the same total shared out so that the divergence is least.

    The costs of the products are measured on the text's first tokens (`simulation.scaling.expansion`). What a product
    takes is counted in passes that are really shown, so that both runs take the same number of photons. All of it is
    computed on the CPU.

    Parameters
    ----------
    bench
        From `shareable`.
    photons_per_mac
        At the weight plane, in the mean over all optical multiply–accumulates.
    setting
        The converters after the light are those of its bits.
    advance
        Told of every hundredth of the work.
    """
    window = window_of(language, context)
    told = 0

    def tell(share: float) -> None:
        nonlocal told
        done = int(STEPS * share)
        advance(done - told)
        told = done

    model = language.model.to("cpu")
    tokens = min(TOKENS, len(text.ids) - 1)
    found = expand(
        model,
        text.ids,
        context=min(window, max(1, tokens // WINDOWS)),
        max_tokens=tokens,
        clip=bench.clip,
        quantum_efficiency=bench.quantum_efficiency,
        seed=seed,
        advance=lambda done, of: tell(0.8 * done / of),
    )
    ranges = setting.ranges(model, text.ids, window)

    def scored(light: float | Mapping[str, float]) -> tuple[LightScore, dict[str, float]]:
        lit = opticalize(model, bench, photons_per_mac=light, seed=seed, encoding=ENCODING, ranges=ranges)
        return _score(lit, model, text, window)

    uniform, passes = scored(photons_per_mac)
    tell(0.9)
    light = found.budget(photons_per_mac, passes)
    shared_out, _ = scored({**light, OTHERS: photons_per_mac})  # noise may ask experts that nobody has asked yet
    tell(1)
    return LightBudget(
        photons_per_mac=photons_per_mac,
        products=[LightOfProduct(name=p.name, kind=p.kind, photons_per_mac=light[p.name]) for p in found.products],
        uniform=uniform,
        shared_out=shared_out,
        predicted=_gain(found, photons_per_mac, light),
        tokens=found.tokens,
    )


def _score(lit: nn.Module, model: nn.Module, text: TextTokens, window: int) -> tuple[LightScore, dict[str, float]]:
    """A score, and the passes of each product."""
    found, report = divergence(lit, model, text.ids, context=window), optical_report(lit)
    score = LightScore(
        photons_per_mac=report.total.photons_per_mac,
        kl=found.nats_per_token,
        kl_stderr=found.stderr,
        perplexity=found.perplexity.ppl,
        perplexity_stderr=found.perplexity.ppl * found.perplexity.stderr,
    )
    return score, {name: float(tally.passes) for name, tally in report.layers.items()}


def _gain(found: Expansion, photons_per_mac: float, light: Mapping[str, float]) -> float:
    """Divergence with equal light over that with ``light``, to second order; nan where noise costs nothing."""
    shared_out = sum(max(p.cost.kl, 0.0) / light[p.name] for p in found.products)
    even = sum(max(p.cost.kl, 0.0) for p in found.products) / photons_per_mac
    return even / shared_out if shared_out else math.nan
