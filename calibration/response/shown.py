"""What a fit was shown: the directions of its rows, the range of each input and of the light of each output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.response.leverage import LEVERAGE_ARRAYS, Leverage

Float = NDArray[np.float64]

INPUT_BEYOND = 2.0  # half ranges of an input from its middle
LIGHT_BEYOND = 2.0  # half ranges of an output's light from its middle
CURVE_BEYOND = 1.4  # the same where a curve of the detector was fitted on that range
MARGIN = 1.2  # beyond what held-out rows showed to the others


@dataclass(frozen=True)
class Shown:
    """What the rows of a fit showed; S is the number of outputs, or 1 of a single detector.

    Attributes
    ----------
    leverage
        Which directions, and how much they leave open.
    inputs
        (2, N) smallest and largest value of each input.
    light
        (2, S) smallest and largest light of each output [unit].
    middle
        (S,) light that the detector's curvature is taken about [unit].
    held_input
        How far single inputs of held-out rows leave what the other rows showed of them, as `input_excess` [1].
    held_light
        How many half ranges the light of held-out rows is from the middle of the other rows' range [1].
    """

    leverage: Leverage
    inputs: Float
    light: Float
    middle: Float
    held_input: float
    held_light: float

    def input_excess(self, inputs: Float, weight: Float) -> Float:
        """(n, N) what each input does beyond twice its range, in standard deviations of a reading.

        Parameters
        ----------
        inputs
            (n, N)
        weight
            (N,) standard deviations of a reading per unit of each input.
        """
        return beyond_inputs(inputs, self.inputs, weight)

    def light_excess(self, light: Float) -> Float:
        """(n, S) half ranges of the light from the middle of its range."""
        return beyond_light(light, self.light)

    @property
    def in_words(self) -> str:
        """How many directions of the inputs the rows show; empty where that is all of them."""
        told, inputs = int((self.leverage.known > self.leverage.ratio).sum()), len(self.leverage.centre)
        if told == inputs:
            return ""
        return f"the rows show {told} of the {inputs} directions that inputs can take: the others are not determined"

    @property
    def most_input(self) -> float:
        """`input_excess` that the hold-out has not tested."""
        return max(1.0, MARGIN * self.held_input)

    def most_light(self, *, curved: bool) -> float:
        """`light_excess` that the hold-out has not tested."""
        return max(CURVE_BEYOND if curved else LIGHT_BEYOND, MARGIN * self.held_light)

    def scaled(self, factor: float) -> Shown:
        """The same of a bench whose gains are all larger by a factor."""
        old = self.leverage
        more = {name: getattr(old, name) * factor for name in ("size", "base", "curve_mean", "curve_slope")}
        reach = old.reach * np.array([[1.0], [factor]])  # only the detector's range is one of light
        lever = replace(old, **more, reach=reach, reference=old.reference * factor**2)
        return replace(self, leverage=lever, light=self.light * factor, middle=self.middle * factor)

    def with_weights(self, old: Float, fresh: Float) -> Shown:
        """The same of other weights (M, N) on the bench: nothing is known of their curvatures."""
        lever = self.leverage
        if len(lever.size) == 1:  # of a single detector directions are behind the weights
            return self
        change = np.sqrt((fresh**2).mean(1) / np.maximum((old**2).mean(1), 1e-300))
        flat = np.zeros_like(lever.curve_covariance)
        more = {name: getattr(lever, name) * change**2 for name in ("noise", "reference")}
        lever = replace(lever, size=lever.size * change, curve_covariance=flat, **more)
        light = np.array([[self.light[0].min()], [self.light[1].max()]]) * np.ones(len(change))
        return replace(self, leverage=lever, light=light)

    def arrays(self) -> dict[str, Float]:
        """The arrays of a file."""
        found = {f"leverage_{name}": getattr(self.leverage, name) for name in LEVERAGE_ARRAYS}
        return found | {f"shown_{name}": getattr(self, name) for name in ("inputs", "light", "middle")}

    def document(self) -> dict[str, Any]:
        """JSON types of everything but the arrays."""
        lever = self.leverage
        numbers = {"prior_width": lever.width, "moment_ratio": lever.ratio}
        return numbers | {"held_input": self.held_input, "held_light": self.held_light}

    @classmethod
    def of(cls, document: Mapping[str, Any], arrays: Mapping[str, Float], outputs: int, inputs: int) -> Shown:
        """Read back.

        Parameters
        ----------
        outputs, inputs
            S and N.

        Raises
        ------
        ValueError, KeyError
            When arrays are missing, or do not belong to that many outputs and inputs.
        """
        s, n = outputs, inputs
        named = {name: arrays[f"leverage_{name}"] for name in LEVERAGE_ARRAYS}
        r = len(named["known"])
        shapes: dict[str, tuple[int, ...]] = {
            "centre": (n,), "pattern": (n,), "basis": (r, n), "known": (r,), "size": (s,), "base": (s,), "noise": (s,),
            "curve_mean": (2, s), "curve_slope": (2, s, n), "curve_covariance": (s, 2, 2), "reach": (2, s),
            "reference": (s,),
        }  # fmt: skip
        for name, shape in shapes.items():
            if named[name].shape != shape:
                raise ValueError(f"leverage_{name} has shape {named[name].shape}, not {shape}")
        mine = {name: arrays[f"shown_{name}"] for name in ("inputs", "light", "middle")}
        for name, shape in {"inputs": (2, n), "light": (2, s), "middle": (s,)}.items():
            if mine[name].shape != shape:
                raise ValueError(f"shown_{name} has shape {mine[name].shape}, not {shape}")
        width, ratio = float(document["prior_width"]), float(document["moment_ratio"])
        positive = [named[name] for name in ("pattern", "known", "size", "noise", "reach")]
        if not (width > 0 and ratio >= 0 and all((a > 0).all() for a in positive)):
            raise ValueError("sizes of what was shown that are not positive")
        if any((mine[name][0] > mine[name][1]).any() for name in ("inputs", "light")):
            raise ValueError("ranges of what was shown that end before they begin")
        if r and np.abs(named["basis"] @ named["basis"].T - np.eye(r)).max() > 1e-6:
            raise ValueError("directions of what was shown that are not at right angles")
        lever = Leverage(**named, width=width, ratio=ratio)
        return cls(lever, **mine, held_input=float(document["held_input"]), held_light=float(document["held_light"]))


def beyond_inputs(inputs: Float, ranges: Float, weight: Float) -> Float:
    """(n, N) as `Shown.input_excess`, for ``ranges`` (2, N)."""
    middle, half = ranges.mean(0), (ranges[1] - ranges[0]) / 2
    return np.asarray(np.maximum(np.abs(inputs - middle) - INPUT_BEYOND * half, 0) * weight)


def beyond_light(light: Float, ranges: Float) -> Float:
    """(n, S) as `Shown.light_excess`, for ``ranges`` (2, S)."""
    middle, half = ranges.mean(0), (ranges[1] - ranges[0]) / 2
    return np.asarray(np.abs(light - middle) / np.maximum(half, 1e-300))
