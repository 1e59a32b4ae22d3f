"""What a sweep of a family can bear, in words: for the terminal and the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from labctl.errors import UsageError
from labctl.studies.family_law import shape_of
from labctl.studies.scaling import Member, Scaling
from labctl.studies.second_order import why_not
from simulation.benches.opening import described
from simulation.conversion.quantise import CLIP
from simulation.scaling.law import Factor

BESIDES: dict[Factor, str] = {
    "blocks": "depth", "head_width": "head width", "tokens_per_parameter": "tokens of training for each parameter",
}  # fmt: skip
"""What may differ besides the width."""
ALIKE = 1.1
"""Sizes within this factor are the same: steps of training are whole numbers."""


def differing(members: Sequence[Member]) -> tuple[str, ...]:
    """What the models differ in besides the width, as far as they say."""
    try:
        shapes = [shape_of(member.language.model, member.trained_for) for member in members]
    except UsageError:
        return ()
    sizes = {factor: [size for shape in shapes if (size := getattr(shape, factor)) is not None] for factor in BESIDES}
    return tuple(
        words for factor, words in BESIDES.items() if sizes[factor] and max(sizes[factor]) > ALIKE * min(sizes[factor])
    )


def remarks(found: Scaling) -> Iterator[str]:
    """What stands in the numbers besides the width and the light."""
    members = found.plan.members
    if others := differing(members):
        listed = " and ".join(filter(None, (", ".join(others[:-1]), others[-1])))
        yield f"the models differ in {listed}, too: the exponents of d hold that as well"
    if len(members) == 2:
        yield "two widths: 95 % is of the text and the noise alone, not of another training"
    documents = found.sweeps[0].documents
    if len(found.sweeps[0].tokens if documents is None else np.unique(documents)) == 1:
        yield "the text is one window: how much another text would change is in no interval; a longer text tells"
    if described(found.plan.bench).clip != CLIP and any(law.reference == "int8" for law in found.laws):
        yield (
            f"the 8-bit model is the article's, clipped at percentiles {CLIP[0]:g} and {CLIP[1]:g}, "
            "and this machine is not: 'of float' compares like with like"
        )
    if why := why_not(described(found.plan.bench)):
        yield f"no second order: {why}"
