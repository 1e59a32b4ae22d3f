"""C of noise by theory and by light itself, for any models: the second order that `labctl scaling` prints, tested.

    python benchmarks/second_order.py MODEL [MODEL …] [--text TEXT] [--tokens 512] [--kinds] [--json]

By theory C is measured product by product with tiny noise of opposite signs; nothing of the simulated bench is in it.
By light it is the KL divergence of the model on the preset ``ideal`` from the digital one, times the photons, at two
bright levels: once the second order is all there is, both levels give the same. With ``--kinds`` one kind of product at
a time is in light, too. A model agrees where the brighter level lies within three standard errors, or within 10 %.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from labctl.studies.simulate import evaluation_text
from simulation.conversion.optical import opticalize
from simulation.evaluation.divergence import divergence
from simulation.models.language import Language
from simulation.models.loading import load_language
from simulation.scaling.expansion import Expansion, expand

FAINT = 2e-2
"""Nats per token that the dimmer level is to cost; the brighter one costs a tenth of that."""
SEEDS = 2


def main() -> None:
    """One line for each model, or for each kind of product of each."""
    given = _arguments()
    rows = [row for model in given.model for row in compared(model, given.text, given.tokens, by_kind=given.kinds)]
    if given.json:
        print(json.dumps(rows, allow_nan=False))
    elif not all(row["agrees"] for row in rows):
        raise SystemExit(1)


def _arguments() -> argparse.Namespace:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("model", nargs="+", help="whatever labctl simulate takes")
    options.add_argument("--text", type=Path, help="what they read; Python's documentation if left out")
    options.add_argument("--tokens", type=int, default=512)
    options.add_argument("--kinds", action="store_true", help="each kind of product by itself, too")
    options.add_argument("--json", action="store_true", help="one JSON document")
    return options.parse_args()


def compared(model: str, text: Path | None, tokens: int, *, by_kind: bool) -> Iterator[dict[str, object]]:
    """Rows of one model."""
    language = load_language(model)
    ids = evaluation_text(language.encode, text, tokens).ids
    context = min(language.context, max(1, (len(ids) - 1) // 4))
    found = expand(language.model, ids, context=context)
    for kind, cost in [("all", found.total), *(found.kinds().items() if by_kind else ())]:
        keep = [p.name for p in found.products if kind not in ("all", p.kind)]
        levels = [max(1.0, cost.kl / FAINT) * factor for factor in (1, 10)]
        lit = [[_by_light(language, ids, context, keep, n, seed) for seed in range(SEEDS)] for n in levels]
        mean, error = float(np.mean(lit[-1])), float(np.std(lit[-1], ddof=1) / math.sqrt(SEEDS))
        apart = abs(mean - cost.kl)
        agrees = apart < max(3 * math.hypot(error, cost.kl_stderr), 0.1 * cost.kl)
        yield _told(language, found, kind, {
            "theory": cost.kl, "theory_stderr": cost.kl_stderr, "photons": levels,
            "by_light": [float(np.mean(each)) for each in lit], "by_light_stderr": error, "agrees": agrees,
        })  # fmt: skip


def _by_light(language: Language, ids: list[int], context: int, keep: list[str], photons: float, seed: int) -> float:
    lit = opticalize(language.model, "ideal", photons_per_mac=photons, seed=seed, keep=keep)
    return divergence(lit, language.model, ids, context=context).nats_per_token * photons


def _told(language: Language, found: Expansion, kind: str, row: dict[str, object]) -> dict[str, object]:
    dim, bright = row["by_light"]  # type: ignore[misc]
    print(
        f"{language.name:<28} {kind:<5} theory {row['theory']:9.4g} ± {row['theory_stderr']:<7.2g} "
        f"light {dim:9.4g} {bright:9.4g} ± {row['by_light_stderr']:<7.2g} "
        f"{'agrees' if row['agrees'] else 'DIFFERS'}",
        flush=True,
    )
    return {"model": language.name, "kind": kind, "tokens": found.tokens, **row}


if __name__ == "__main__":
    main()
