"""Arms of a family: models that differ in one thing, for a law that says what each thing does.

Every model sees the same number of tokens for each of its parameters, so that a wide one is trained as far as a narrow
one. The learning rate is tuned at one width and carried to the others: as d^−½ with the width, and as L^−½ with the
depth (the residual branches are initialised with 1/√L as well). Under Adam the rate of the matrices alone would go as
1/d (maximal-update parametrisation, arXiv 2203.03466) and that of the tied embedding not at all; one rate for both
lies between.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal, get_args

from calibration.errors import OutOfDomain
from simulation.training.recipe import Precision, TrainingConfig

Arm = Literal["width", "depth", "heads", "qat", "tokens"]
ARMS: tuple[Arm, ...] = get_args(Arm)
"""In the order in which they are trained."""
WIDTHS = (32, 48, 64, 96, 128, 192, 256, 384)
DEPTHS = (2, 4, 8, 12)
DEEP_WIDTH = 32
"""Of the arm of depth."""
LONGER = (1, 4)
"""Times as many tokens for each parameter, in the arm of tokens: the widths again, trained longer."""
HEAD_WIDTH, HEADS = 16, 4
"""Of each head where its width is fixed, and how many where their number is."""
BASE_WIDTH, BASE_BLOCKS, BASE_RATE = 64, 2, 4e-3
"""Where the learning rate was tuned."""
QAT_SHARE, QAT_RATE = 10, 0.1
"""Quantised training goes on for one step in ten, at a tenth of the rate."""


@dataclass(frozen=True)
class Recipe:
    """What all models of all arms share.

    Attributes
    ----------
    tokens_per_parameter
        Seen in training.
    seeds
        Of training, for each shape.
    widths
        Of the arms that vary the width.
    vocabulary, context, batch, evaluate_every, precision
        As in `simulation.training.recipe.TrainingConfig`.
    """

    tokens_per_parameter: float = 20.0
    seeds: tuple[int, ...] = (0, 1, 2)
    widths: tuple[int, ...] = WIDTHS
    vocabulary: int = 512
    context: int = 128
    batch: int = 8
    evaluate_every: int = 500
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        if not self.tokens_per_parameter > 0 or not self.seeds or not self.widths:
            raise OutOfDomain(
                "no arms have this recipe", expected="tokens, seeds and widths", seen=str(self), hint="labctl train"
            )
        for width in self.widths:
            if width % HEAD_WIDTH or width % HEADS:
                raise OutOfDomain(
                    f"a width of an arm is a multiple of {HEAD_WIDTH}",
                    seen=str(width),
                    hint=f"--width {HEAD_WIDTH * max(1, round(width / HEAD_WIDTH))}",
                )


@dataclass(frozen=True)
class Planned:
    """One model of an arm.

    Attributes
    ----------
    name
        Of its file, from all that it differs in: ``d64-b2-h4-t20-s0``.
    config
        Its recipe.
    start
        Name of the model in float that a quantised one goes on from.
    """

    name: str
    config: TrainingConfig
    start: str | None = None


def parameters_of(width: int, blocks: int, vocabulary: int, context: int) -> int:
    """Of a `simulation.models.gpt.GPT`: matrices, embeddings, and two vectors for each normalisation."""
    return 12 * blocks * width**2 + (vocabulary + context) * width + (2 * blocks + 1) * 2 * width


def planned(arm: Arm, recipe: Recipe) -> tuple[Planned, ...]:
    """The models of an arm, the quick ones first; arms share models, by name."""
    shapes = sorted(_shapes(arm, recipe), key=lambda s: parameters_of(s[0], s[1], 1, 1) * s[3])
    return tuple(_planned(arm, recipe, shape, seed) for shape in shapes for seed in recipe.seeds)


def _shapes(arm: Arm, recipe: Recipe) -> Iterator[tuple[int, int, int, float]]:
    """Width, blocks, heads, tokens per parameter."""
    tokens = recipe.tokens_per_parameter
    if arm == "depth":
        yield from ((DEEP_WIDTH, blocks, DEEP_WIDTH // HEAD_WIDTH, tokens) for blocks in DEPTHS)
    else:
        for width, more in product(recipe.widths, LONGER if arm == "tokens" else (1,)):
            yield width, BASE_BLOCKS, HEADS if arm == "heads" else width // HEAD_WIDTH, tokens * more


def _planned(arm: Arm, recipe: Recipe, shape: tuple[int, int, int, float], seed: int) -> Planned:
    width, blocks, heads, tokens = shape
    seen = tokens * parameters_of(width, blocks, recipe.vocabulary, recipe.context)
    steps = max(1, round(seen / (recipe.batch * recipe.context)))
    config = TrainingConfig(
        width=width,
        blocks=blocks,
        heads=heads,
        context=recipe.context,
        vocabulary=recipe.vocabulary,
        seed=seed,
        steps=steps,
        batch=recipe.batch,
        learning_rate=rate(width, blocks),
        warmup=max(20, steps // 20),
        evaluate_every=recipe.evaluate_every,
        precision=recipe.precision,
    )
    name = f"d{width}-b{blocks}-h{heads}-t{tokens:g}-s{seed}"
    if arm != "qat":
        return Planned(name, config)
    short = max(1, steps // QAT_SHARE)
    quantised = replace(
        config,
        steps=short,
        warmup=max(1, short // 20),
        learning_rate=QAT_RATE * rate(width, blocks),
        precision="float32",
    )
    return Planned(f"{name}-qat", quantised, start=name)


def rate(width: int, blocks: int) -> float:
    """Peak learning rate, three digits of it."""
    carried = BASE_RATE * (BASE_WIDTH / width) ** 0.5 * (BASE_BLOCKS / blocks) ** 0.5
    return float(f"{carried:.3g}")


def in_order(arms: Sequence[Arm], recipe: Recipe) -> dict[Arm, tuple[Planned, ...]]:
    """The arms asked for, in the order of `ARMS`."""
    return {arm: planned(arm, recipe) for arm in ARMS if arm in arms}
