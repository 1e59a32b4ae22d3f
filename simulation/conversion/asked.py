"""What somebody asks `opticalize` for, looked through before anything is done."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from numbers import Integral, Real

from torch import nn

from calibration.errors import OutOfDomain
from simulation.light.optics import LEAST_PHOTONS, MOST_PHOTONS

_OF_A_MODULE = re.compile(
    r"(?:\.?thread\d+)*(?:\.?(?:product|matrix)[\d?*\[\]!-]*(?: \(\d+\))?|\[[\d:, a-z]*\](?: \(\d+\))?| \(\d+\))$"
)
"""What `simulation.conversion.routing` adds to the name of a module or parameter, whose products it finds later."""


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
    names = {name for name, _ in model.named_modules()} | set(_parameters(model))
    others = [product for product in stated if product != OTHERS and _OF_A_MODULE.sub("", str(product)) not in names]
    if others:
        raise OutOfDomain(
            "light is stated for products that the model does not have",
            device=type(model).__name__,
            expected="the light of this model's products",
            seen=", ".join(map(str, others[:3])) + (f" and {len(others) - 3} more" if len(others) > 3 else ""),
            hint="measure the budget on this model: simulation.scaling.expansion.expand",
        )
    return {product: light_level(light) for product, light in stated.items()}


def seed_of_noise(stated: object) -> int:
    """A whole number from 0 on.

    Raises
    ------
    OutOfDomain
        For anything else.
    """
    if not isinstance(stated, bool) and isinstance(stated, Integral) and int(stated) >= 0:
        return int(stated)
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
    names = [*(name for name, _ in model.named_modules() if name), *_parameters(model)]
    for pattern in keep:
        if not isinstance(pattern, str) or not pattern or not any(_means(pattern, name) for name in names):
            near = difflib.get_close_matches(str(pattern), names, n=3, cutoff=0.3) or names[:3]
            raise OutOfDomain(
                "nothing in the model goes by a name that was to stay digital",
                device=type(model).__name__,
                expected=f"a name or shell pattern, as {', '.join(dict.fromkeys(near)) or 'none: the model is bare'}",
                seen=repr(pattern),
                hint="the names: [name for name, _ in model.named_modules()]",
            )
    return keep


def _parameters(model: nn.Module) -> list[str]:
    """Names of parameters, and those that their matrices have."""
    whole = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    return [*(name.removesuffix("weight").rstrip("._") or name for name in whole), *whole]


def _means(pattern: str, name: str) -> bool:
    """Whether a pattern is of a module or parameter, or of a product in it."""
    return fnmatchcase(name, pattern) or fnmatchcase(name, _OF_A_MODULE.sub("", pattern) or "*")
