"""A model whose layers have the noise of a calibrated bench, as analog layers of aihwkit."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from drivers.libraries.loading import load
from labctl.doors.packages import require_package
from labctl.errors import UsageError
from simulation.benches.opening import Source
from simulation.conversion.optical import optical_report, opticalize

ROWS = 4096
"""Inputs of a layer that its noise is taken from, at most."""


def as_aihwkit(
    model: nn.Module, calibration: Source | Path, inputs: Tensor, *, photons_per_mac: float | None = None, seed: int = 0
) -> nn.Module:
    """Convert a model to analog layers of aihwkit that are as noisy as its products on a calibrated bench.

    What aihwkit's ``convert_to_analog(model, rpu_config)`` does, with a calibration in place of the configuration. Each
    linear layer gets an output noise of its own, in aihwkit's units, by what the bench adds to that layer on these
    inputs; inputs and weights are scaled as ours are, by their largest value in a row and in the matrix, and what is
    rounded on the bench is part of the noise. That is less than `opticalize` knows: noise that follows the signal, that
    outputs of a frame share, or that is a fixed error of the bench comes out as independent noise of the same size, and
    attention products, convolutions and the output head stay digital. Let aihwkit add no programming noise or drift of
    its own, which are those of memory cells: ``program_analog_weights`` and ``drift_analog_weights`` do.

    Parameters
    ----------
    model
        Any model of torch with ``nn.Linear`` layers; it is copied.
    calibration, photons_per_mac, seed
        As for `opticalize`.
    inputs
        Of the model, such as it will meet: a few hundred rows or tokens.

    Returns
    -------
    The copy. ``forward.out_noise`` of each tile's configuration is its noise.

    Raises
    ------
    UsageError
        When aihwkit is not installed, the model has no linear layer that becomes optical, or one of them does not run
        on these inputs.
    ArtefactError
        When nothing goes by the name of the calibration.

    Examples
    --------
    >>> import labctl, torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 8))
    >>> analog = labctl.as_aihwkit(model, "paper", torch.rand(200, 16), photons_per_mac=10.0)
    >>> analog(torch.rand(5, 16)).shape
    torch.Size([5, 8])
    """
    require_package("aihwkit", "aihwkit")
    known = dict(model.named_modules())
    optical = optical_report(opticalize(model, calibration, photons_per_mac=photons_per_mac)).optical
    linear = {name: layer for name in optical if isinstance(layer := known.get(name), nn.Linear)}
    if not linear:
        raise UsageError(
            "no linear layer of the model becomes optical",
            expected="torch.nn.Linear layers inside of a model",
            seen=", ".join(sorted({type(one).__name__ for one in known.values()})),
            hint="wrap a single layer: torch.nn.Sequential(layer)",
        )
    seen = _inputs_of(model, linear, inputs)
    light = partial(opticalize, calibration=calibration, photons_per_mac=photons_per_mac, seed=seed, head=True)
    noise = {name: _noise_of(layer, seen[name], light) for name, layer in linear.items()}
    return _converted(model, noise, {name for name, one in known.items() if isinstance(one, nn.Linear)} - set(noise))


def _inputs_of(model: nn.Module, layers: Mapping[str, nn.Linear], inputs: Tensor) -> dict[str, Tensor]:
    """What each layer is given, (rows, K), when the model as it is runs on these inputs."""
    seen: dict[str, Tensor] = {}

    def note(name: str, layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        rows = arguments[0].detach().reshape(-1, arguments[0].shape[-1])[:ROWS]
        if rows.any():
            seen[name] = rows

    hooks = [layer.register_forward_pre_hook(partial(note, name)) for name, layer in layers.items()]
    modes = [(one, one.training) for one in model.modules()]
    try:
        with torch.no_grad():
            model.eval()(inputs)
    finally:
        for one, was in modes:
            one.training = was
        for hook in hooks:
            hook.remove()
    if missing := sorted(layers.keys() - seen.keys()):
        raise UsageError(
            "a layer does not run on these inputs",
            device=missing[0],
            expected="inputs that every linear layer sees, and that are not all 0",
            seen=f"{len(missing)} of {len(layers)} layers without any",
        )
    return seen


def _noise_of(layer: nn.Linear, inputs: Tensor, light: Any) -> float:
    """rms of what the bench adds to an output, where inputs and weights are 1 at most."""
    rows = inputs[inputs.abs().amax(dim=1) > 0]
    plain = nn.Linear(layer.in_features, layer.out_features, bias=False)
    plain.weight = nn.Parameter(layer.weight.detach().clone())
    with torch.no_grad():
        added = light(nn.Sequential(plain))(rows) - plain(rows)
    scale = rows.abs().amax(dim=1, keepdim=True) * layer.weight.detach().abs().max()
    return float((added / scale).square().mean().sqrt())


def _converted(model: nn.Module, noise: Mapping[str, float], digital: set[str]) -> nn.Module:
    """The copy in aihwkit's layers."""
    configs = load("aihwkit.simulator.configs")
    config = configs.TorchInferenceRPUConfig()
    config.mapping.max_input_size = config.mapping.max_output_size = 0
    config.mapping.weight_scaling_omega, config.mapping.weight_scaling_columnwise = 1.0, False
    io = config.forward
    io.is_perfect = False
    io.inp_res = io.out_res = io.out_bound = -1.0
    io.inp_noise = io.w_noise = 0.0
    io.noise_management = configs.NoiseManagementType.ABS_MAX
    io.bound_management = configs.BoundManagementType.NONE

    def own(name: str, layer: nn.Module, general: Any) -> Any:
        special = copy.deepcopy(general)
        special.forward.out_noise = noise[name]
        return special

    found: nn.Module = load("aihwkit.nn.conversion:convert_to_analog")(
        model,
        config,
        conversion_map={nn.Linear: load("aihwkit.nn:AnalogLinear")},
        specific_rpu_config_fun=own,
        exclude_modules=sorted(digital),
    )
    return found
