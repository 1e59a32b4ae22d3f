"""What somebody asks `opticalize` for, looked through before anything is done."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from numbers import Integral, Real

from torch import nn

from calibration.errors import OutOfDomain
from groundwork.nearest import did_you_mean, nearest
from simulation.conversion.origins import constants_of
from simulation.conversion.prepared import REPLICA
from simulation.conversion.ranges import Ranges
from simulation.light.coarse import MOST, Bits
from simulation.light.optics import LEAST_PHOTONS, MOST_PHOTONS

_OF_A_MODULE = re.compile(
    r"(?:\.?thread\d+)*(?:\.?(?:product|matrix)[\d?*\[\]!-]*(?: \(\d+\))?|\[[\d:, a-z]*\](?: \(\d+\))?| \(\d+\))$"
)
"""What `simulation.conversion.routing` adds to the name of a module or parameter, whose products it finds later."""

OF_THAT_MODEL = "load it into the model that it was taken from, or a copy"
OTHERS = "*"
"""Among the names of products: all that are not named."""


def light_level(stated: object) -> float:
    """Photons per MAC, as many as there can be.

    Raises
    ------
    OutOfDomain
        For anything else, also for text.
    """
    if not isinstance(stated, bool) and isinstance(stated, Real) and LEAST_PHOTONS <= float(stated) <= MOST_PHOTONS:
        return float(stated)
    raise OutOfDomain(
        "photons per MAC must be a positive number",
        expected=f"{LEAST_PHOTONS:g} … {MOST_PHOTONS:g}, or None for the bench's own light",
        seen=repr(stated),
        hint="photons_per_mac=100.0; shared out by what products need: expand(model, ids, context=…).budget(100.0)",
    )


def lights(stated: Mapping[str, float], model: nn.Module) -> dict[str, float]:
    """Photons per MAC of each product, each of which may be one of a model.

    Raises
    ------
    OutOfDomain
        When there is none, one is no light, or a name is of nothing in the model: a budget is of the model that it was
        measured on.
    """
    if not stated:
        raise OutOfDomain(
            "no light is stated for any product",
            expected="photons per MAC by the names of products, or one number for all",
            seen="{}",
            hint="photons_per_mac=100.0",
        )
    hint = "measure the budget on this model: simulation.scaling.expansion.expand"
    _require_of(model, "the light is", (product for product in stated if product != OTHERS), hint)
    return {product: light_level(light) for product, light in stated.items()}


def ranges_of(stated: object, model: nn.Module) -> dict[str, Ranges]:
    """Ranges of products, each of which may be one of a model; none where None is stated.

    Raises
    ------
    OutOfDomain
        For what is no range, and for names of nothing in the model: its inputs would go unclipped without a word.
    """
    if stated is None:
        return {}
    if not isinstance(stated, Mapping):
        raise OutOfDomain(
            "ranges are stated by the names of products",
            expected="what observe returns, or a dict of Ranges",
            seen=f"{type(stated).__name__} {str(stated)[:60]!r}",
            hint="ranges=observe(model, batches)",
        )
    for name, each in stated.items():
        if not isinstance(each, Ranges) or not _are_ranges(each):
            raise OutOfDomain(
                "a range of operands is two positive numbers, and how many steps a converter has",
                device=str(name),
                expected="Ranges(input > 0, 0 < output < inf, steps ≥ 1, tile ≥ 0)",
                seen=repr(each)[:120],
                hint="ranges=observe(model, batches)",
            )
    _require_of(model, "the ranges are", stated, "ranges=observe(model, batches) of this model")
    return dict(stated)


def _are_ranges(each: Ranges) -> bool:
    numbers = all(not isinstance(value, bool) and isinstance(value, Real) for value in (each.input, each.output))
    whole = _whole(each.steps) >= 1 and _whole(each.tile) >= 0
    return numbers and whole and each.input > 0 and 0 < each.output < math.inf


def states_of(stated: object, model: nn.Module) -> dict[str, tuple[int, int, int]]:
    """The state of the noise of products, each of which may be one of a model.

    Raises
    ------
    OutOfDomain
    """
    is_one = isinstance(stated, Mapping) and all(_is_state(each) for each in stated.values())
    if not isinstance(stated, Mapping) or not is_one:
        raise OutOfDomain(
            "this is no state of noise",
            expected="what optical_state returned: three whole numbers from 0 on for each product",
            seen=repr(stated)[:120],
            hint="load_optical_state(optical, state)",
        )
    _require_of(model, "the state is", stated, OF_THAT_MODEL)
    return {name: (int(first), int(second), int(calls)) for name, (first, second, calls) in stated.items()}


def _is_state(each: object) -> bool:
    if not isinstance(each, list | tuple) or len(each) != 3:
        return False
    first, second, calls = map(_whole, each)
    return 0 <= first < 1 << 32 and 0 <= second < 1 << 32 and calls >= 0


def _whole(stated: object) -> int:
    """A whole number; -1 for anything else."""
    return int(stated) if not isinstance(stated, bool) and isinstance(stated, Integral) else -1


def bits_asked(stated: object) -> Bits | None:
    """Bits of inputs, weights and outputs: one number for all of them, or three; None where None is stated.

    Raises
    ------
    OutOfDomain
        For anything else, and for numbers that are not from 2 to 16.
    """
    if stated is None or isinstance(stated, Bits):
        return stated
    each = tuple(stated) if isinstance(stated, tuple | list) else (stated,) * 3
    if len(each) == 3 and all(_whole(bits) > 0 for bits in each):
        return Bits(*map(_whole, each))
    raise OutOfDomain(
        "bits are one number for inputs, weights and outputs, or three",
        expected=f"2 … {MOST}",
        seen=repr(stated),
        hint="bits=4, or bits=(4, 4, 8)",
    )


def clip_asked(stated: object) -> float | None:
    """The percentile that is full scale; None where None is stated.

    Raises
    ------
    OutOfDomain
        For anything that is no percentile above 0, up to 100.
    """
    if stated is None or (not isinstance(stated, bool) and isinstance(stated, Real) and 0 < float(stated) <= 100):
        return None if stated is None else float(stated)
    raise OutOfDomain(
        "a clip is a percentile of the magnitudes",
        expected="a number above 0, up to 100, or None for the bench's own",
        seen=repr(stated),
        hint="clip=100 clips nothing",
    )


def converters_of(ranges: Mapping[str, Ranges], bits: Bits | None, model: nn.Module) -> dict[str, Ranges]:
    """Ranges whose outputs are converted with so many bits; as they are where none are stated.

    Raises
    ------
    OutOfDomain
        When there are bits and no ranges: nobody knows which outputs the steps of the converters have to reach.
    """
    if bits is None:
        return dict(ranges)
    if not ranges:
        raise OutOfDomain(
            "outputs of few bits need the range of each product",
            device=type(model).__name__,
            expected="what observe returns",
            seen="no ranges",
            hint="ranges=simulation.observe(model, [inputs], inputs=False)",
        )
    return {name: replace(each, steps=bits.steps) for name, each in ranges.items()}


def seed_of_noise(stated: object) -> int:
    """A whole number from 0 on.

    Raises
    ------
    OutOfDomain
        For anything else.
    """
    if (seed := _whole(stated)) >= 0:
        return seed
    raise OutOfDomain("a seed is a whole number from 0 on", expected="0, 1, 2, …", seen=repr(stated), hint="seed=0")


def require_model(stated: object) -> None:
    """Refuse what is no model of torch.

    Raises
    ------
    OutOfDomain
    """
    if not isinstance(stated, nn.Module):
        raise OutOfDomain(
            "only a model of torch can be put in light",
            expected="a torch.nn.Module",
            seen=f"{type(stated).__name__} {str(stated)[:60]!r}",
            hint="labctl.load_language(path).model loads a language model",
        )


def patterns(keep: Iterable[str] | str, model: nn.Module) -> tuple[str, ...]:
    """Names and shell patterns, each of which names something in a model; one alone may stand without a list.

    Raises
    ------
    OutOfDomain
        When one names nothing: what was to stay digital would go into light without a word.
    """
    keep = tuple(keep) if isinstance(keep, Iterable) and not isinstance(keep, str) else (keep,)
    names = _names(model)
    for pattern in keep:
        if not isinstance(pattern, str) or not pattern or not any(_means(pattern, name) for name in names):
            near = nearest(pattern, names, most=3) or names[:3]
            raise OutOfDomain(
                "nothing in the model goes by a name that was to stay digital",
                device=type(model).__name__,
                expected=f"a name or shell pattern, as {', '.join(dict.fromkeys(near)) or 'none: the model is bare'}",
                seen=repr(pattern),
                hint="the names: [name for name, _ in model.named_modules()]",
            )
    return keep


def of_another_model(model: nn.Module, what: str, expected: str, seen: Iterable[object], hint: str) -> OutOfDomain:
    """The error of what belongs to another model: ``what`` it is, ``"the state is"``, and whose names it has."""
    names = [str(each) for each in seen]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return OutOfDomain(
        f"{what} of another model",
        device=type(model).__name__,
        expected=expected,
        seen=(", ".join(names[:3]) or "no names at all") + more,
        hint=hint,
    )


def _require_of(model: nn.Module, what: str, names: Iterable[object], hint: str) -> None:
    """Refuse names of which one cannot be of a product of the model."""
    if others := not_in(model, names):
        hint = did_you_mean(others[0], _names(model), hint)
        raise of_another_model(model, what, "names of this model's products", others, hint)


def _names(model: nn.Module) -> list[str]:
    """Of its modules and tensors, but for that of the model itself, which is empty."""
    return [*(name for name, _ in model.named_modules() if name), *_tensors(model)]


def not_in(model: nn.Module, products: Iterable[object]) -> list[object]:
    """Those that cannot be a product of a model, whichever it finds when it runs."""
    names = {"", *_names(model)}
    places = {each: _OF_A_MODULE.sub("", str(each).partition(REPLICA)[0]) for each in products}
    return [each for each, place in places.items() if not isinstance(each, str) or place not in names]


def _tensors(model: nn.Module) -> list[str]:
    """Names that the matrices in parameters, buffers and constants have; a bias of torch's own layers is in none."""
    found = []
    for name, module in model.named_modules(remove_duplicate=False):
        for key in (*module._parameters.keys(), *module._buffers.keys(), *constants_of(module)):
            if key != "bias" or not type(module).__module__.startswith("torch.nn."):
                whole = f"{name}.{key}".removeprefix(".")
                found.append(whole.removesuffix("weight").rstrip("._") or whole)
    return found


def _means(pattern: str, name: str) -> bool:
    """Whether a pattern is of a module or parameter, or of a product in it."""
    return fnmatchcase(name, pattern) or fnmatchcase(name, _OF_A_MODULE.sub("", pattern) or "*")
