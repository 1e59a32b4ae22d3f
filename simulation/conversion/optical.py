"""Any model's linear algebra in light: layers that compute as a calibrated bench, or a preset, would."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
from torch import Tensor, nn

from calibration.errors import OutOfDomain
from simulation.benches.backend import BackendName, Benches
from simulation.benches.imported import ImportedBench
from simulation.benches.multiplier import Multiplier
from simulation.benches.naming import named
from simulation.benches.opening import Source, open_bench, require_known_light
from simulation.benches.setting import set_otherwise
from simulation.benches.tiled import TiledBench
from simulation.conversion.asked import (
    OF_THAT_MODEL,
    OTHERS,
    bits_asked,
    clip_asked,
    converters_of,
    light_level,
    lights,
    not_in,
    of_another_model,
    patterns,
    ranges_of,
    require_model,
    seed_of_noise,
    states_of,
)
from simulation.conversion.convert import convert, shared_copy
from simulation.conversion.layers import OpticalMatrix, OpticalPair
from simulation.conversion.prepared import REPLICA
from simulation.conversion.ranges import Ranges
from simulation.conversion.report import OpticalReport
from simulation.conversion.routing import Routing, routing_of
from simulation.light.accounting import Tally
from simulation.light.coarse import Bits
from simulation.light.settings import VARIANCES, Noise, Variance

Model = TypeVar("Model", bound=nn.Module)

Light = float | Mapping[str, float] | None

BATCH_SIZE = (
    "the law of a row's noise does not depend on other rows of its batch; which numbers are drawn may change with how "
    "many there are, by up to a hundredth of the spread of the logits"
)
"""Of every bench with noise: light is computed in numbers of fewer bits where there are many vectors."""
BATCH = (
    "the reading error is a share of the mean reading of all vectors that are shown together: rows of a batch change "
    "each other's answer, by a few per cent of the spread of the logits"
)
"""What the preset ``paper`` has no way around: the paper states its error against a mean over its own data."""


def opticalize(
    model: Model,
    calibration: Source | Path,
    *,
    photons_per_mac: Light = None,
    seed: int = 0,
    keep: Iterable[str] | str = (),
    device_seed: int | None = None,
    variance: Variance = "exact",
    ranges: Mapping[str, Ranges] | None = None,
    head: bool = False,
    encoding: str | None = None,
    clip: float | None = None,
    bits: Bits | int | tuple[int, int, int] | None = None,
    backend: BackendName = "auto",
) -> Model:
    """Copy a model so that its linear layers and attention products run on a calibrated bench.

    The copy holds the original's parameters, under the original's names.

    Parameters
    ----------
    model
        Any model of torch; `simulation.conversion.convert` says which of its layers are found. Embeddings,
        normalisation, softmax, activations and the output head stay digital. The head is what gives logits over a
        vocabulary: a layer that shares the table of an embedding, that table where it multiplies, and what the model's
        own ``get_output_embeddings()`` returns. The last layer of a classifier is none, and is in light.
    calibration
        From `load_calibration`, of a bench that labctl drives or of an import; or the name of a preset (``"ideal"``,
        ``"paper"``) or of a published machine (`simulation.benches.machines`), the path of a calibration's file, or, of
        one in the archive (``$LABCTL_RUNS``, else ``runs``), the beginning of its id, the name of the bench that it is
        applied to, or ``"latest"``.
    photons_per_mac
        Photons at the weight plane per MAC and pass, averaged over a token's inputs; by the names of products if each
        has its own (`simulation.scaling.expansion.Expansion.budget`), ``"*"`` for all that are not named; the bench's
        own light if None (the presets have none: without it they draw no shot noise).
    seed
        Of the noise; every layer has its own.
    keep
        Names or shell patterns of modules and products that stay digital; a module with all that is in it.
    device_seed
        See `simulation.light.optics.Optics.of`.
    variance
        See `simulation.light.product.Bench`.
    ranges
        From `simulation.conversion.ranges.observe`: inputs are clipped to them, outputs clipped and rounded, to
        8 bits if the ranges say nothing else.
    head
        Whether the output head becomes optical too; it changes nothing for a model without one.
    encoding
        How signs become light, by the name of a family (`simulation.benches.families`); the bench's own if None.
    clip
        Percentile of weights and of attention's second operands that full scale stands for, as ``--clip`` of
        `labctl simulate`; 100 clips nothing, and None is the bench's own.
    bits
        Of inputs, weights and outputs in light, 2 to 16, as ``--bits`` of `labctl simulate`: ``4`` or ``(4, 4, 8)``;
        the bench's own if None. What outputs the converters reach is said by ``ranges``, which are asked for.
    backend
        What computes: see `simulation.benches.backend.Benches`. Each layer's products are computed where its operands
        are, and the copy can be moved as any model.

    Raises
    ------
    OutOfDomain
        When there is no such encoding, variance or backend, the bench cannot do it, ``photons_per_mac`` is not a
        positive number, a seed no whole number, ``bits`` or ``clip`` are none, ``bits`` come without ``ranges``,
        ``ranges`` are none, light or ranges are stated for products that the
        model does not have, or a pattern of ``keep`` names nothing in it.
    ArtefactError
        When nothing goes by the name of the calibration, or its file is damaged.
    BadOperands
        When a weight is not a finite number.

    Examples
    --------
    >>> import labctl, torch
    >>> model = torch.nn.Linear(16, 8)
    >>> optical = labctl.opticalize(torch.nn.Sequential(model), "paper", photons_per_mac=1000.0)
    >>> optical(torch.rand(5, 16)).shape
    torch.Size([5, 8])
    """
    require_model(model)
    each = lights(photons_per_mac, model) if isinstance(photons_per_mac, Mapping) else {}
    even = None if photons_per_mac is None or isinstance(photons_per_mac, Mapping) else light_level(photons_per_mac)
    seed = seed_of_noise(seed)
    device_seed = None if device_seed is None else seed_of_noise(device_seed)
    percentile, words = clip_asked(clip), bits_asked(bits)
    clipped = converters_of(ranges_of(ranges, model), words, model)
    if variance not in VARIANCES:
        raise OutOfDomain("no such variance", expected=" or ".join(VARIANCES), seen=str(variance))
    source = named(calibration)
    if percentile is not None or words is not None:
        source = set_otherwise(source, clip=percentile, encoding=encoding, bits=words, device_seed=device_seed)
    bench = open_bench(source, even, variance, encoding=encoding, device_seed=device_seed)
    _require_same_tiles(bench, clipped)
    keep = patterns(keep, model)
    benches = Benches(bench, backend)
    optical = shared_copy(model)
    for module in optical.modules():
        vars(module).pop("optical_layers", None)
    layers = Layers(benches, seed, clipped, each)
    layers.routing = convert(optical, layers, keep=keep, head=head)
    optical.optical_layers = layers  # type: ignore[assignment]
    return optical


def _require_same_tiles(bench: Multiplier, ranges: Mapping[str, Ranges]) -> None:
    """Refuse ranges of other readings than those of the bench."""
    tile = bench.tile if isinstance(bench, TiledBench) else 0
    for name, each in ranges.items():
        if each.tile != tile:
            raise OutOfDomain(
                "the range of a converter is that of other readings than this bench has",
                device=name,
                expected=f"tiles of {tile} inputs" if tile else "sums over all inputs",
                seen=f"tiles of {each.tile} inputs" if each.tile else "sums over all inputs",
                hint=f"observe(model, batches, tile={tile})",
            )


def optical_report(model: nn.Module) -> OpticalReport:
    """Say what `opticalize` turned optical, what stayed digital and why, and how much light the model has used.

    Light is counted from `opticalize` or the last `reset_optical_report` on. Of a part of such a model (a module of it,
    or what a library took out of its wrapper) the report says what there is in that part, by the names of the whole.

    Raises
    ------
    OutOfDomain
        For a model that is neither optical nor a part of one.

    Examples
    --------
    >>> import labctl, torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(16, 8), torch.nn.LayerNorm(8))
    >>> optical = labctl.opticalize(model, "ideal", photons_per_mac=100.0)
    >>> y = optical(torch.rand(5, 16))
    >>> found = labctl.optical_report(optical)
    >>> found.optical, dict(found.digital), found.total.products
    (('0',), {'1': 'normalisation'}, 5)
    """
    layers, part = _layers_and_part(model)
    assert layers.routing is not None
    done = layers.routing.conversion
    names = _names_in(layers.routing, model, part)
    optical = [name for name in done.optical if name in names]
    tallies = {name: layers.by_name[name].tally.settle() for name in optical}
    total = Tally()
    for tally in tallies.values():
        total += tally
    return OpticalReport(
        tuple(optical),
        {name: why for name, why in done.digital.items() if name in names},
        {name: macs for name, macs in done.digital_macs.items() if name in names},
        tuple(sorted(done.uncounted & names)),
        tallies,
        total,
        tuple(layers.bench.not_measured(total)) if isinstance(layers.bench, ImportedBench) else (),
        BATCH if any(getattr(getattr(layers.bench, "optics", None), "spread", ())) else BATCH_SIZE,
        {name: count for name, count in done.by_elements.items() if count and name in names},
        part,
    )


def reset_optical_report(model: nn.Module) -> None:
    """Count photons, electrons and digital products anew, of a part of a model those of the part.

    Examples
    --------
    >>> import labctl, torch
    >>> optical = labctl.opticalize(torch.nn.Sequential(torch.nn.Linear(16, 8)), "ideal", photons_per_mac=100.0)
    >>> y = optical(torch.rand(5, 16))
    >>> labctl.reset_optical_report(optical)
    >>> labctl.optical_report(optical).total.products
    0
    """
    layers, part = _layers_and_part(model)
    assert layers.routing is not None
    names = _names_in(layers.routing, model, part)
    for name in names & layers.by_name.keys():
        layers.by_name[name].tally = Tally()
    layers.routing.conversion.begin_anew(names)
    layers.routing.prepared.let_go()


def set_light(model: nn.Module, photons_per_mac: float, *, seed: int = 0) -> None:
    """Go on at another light level, as if `opticalize` had been given it; the matrices that are shown stay.

    Noise and report begin anew.

    Raises
    ------
    OutOfDomain
        When the model is not optical, ``photons_per_mac`` is not positive, or the bench knows its own light alone.
    """
    light_level(photons_per_mac)
    layers_of(model).set_light(photons_per_mac, seed_of_noise(seed))
    reset_optical_report(model)


def reseed(model: nn.Module, seed: int) -> None:
    """Draw the noise of an optical model from another seed from now on, as if `opticalize` had been given it."""
    layers_of(model).reseed(seed_of_noise(seed))


def optical_state(model: nn.Module) -> dict[str, tuple[int, int, int]]:
    """State of the noise of every optical layer: its key and how much of it is used. JSON types."""
    found = layers_of(model).by_name
    gone = not_in(model, found)  # of modules that it had once
    return {name: (*layer.noise.key, layer.noise.calls) for name, layer in found.items() if name not in gone}


def load_optical_state(model: nn.Module, state: Mapping[str, tuple[int, int, int]]) -> None:
    """Go on with the noise where `optical_state` was taken.

    Raises
    ------
    OutOfDomain
        When the model has other optical layers, or it is no state.
    """
    layers = layers_of(model)
    found, state = layers.by_name, states_of(state, model)
    if other := sorted(found.keys() - state.keys() - {*not_in(model, found)}):
        raise of_another_model(model, "the state is", f"the noise of {other[0]}, too", state, OF_THAT_MODEL)
    for name, (first, second, calls) in state.items():
        noise = Noise((first, second), calls)
        if name in found:
            found[name].noise = noise
        else:  # of a product that is found when the model runs
            layers.waiting[name] = noise


class Layers:
    """The light of one bench for `simulation.conversion.routing`: each product has its own noise and its own tally.

    Attributes
    ----------
    bench
        What multiplies.
    by_name
        Of every product that is prepared for or has run.
    routing
        Where the products come from.
    """

    def __init__(self, benches: Benches, seed: int, ranges: Mapping[str, Ranges], light: Mapping[str, float]) -> None:
        self.by_name: dict[str, OpticalMatrix | OpticalPair] = {}
        self.routing: Routing | None = None
        self.waiting: dict[str, Noise] = {}
        self.bench, self._benches = benches.bench, benches
        self._seed, self._ranges, self._light = seed, ranges, light

    def set_light(self, photons_per_mac: float, seed: int) -> None:
        """See `set_light`."""
        require_known_light(getattr(self.bench, "optics", None), photons_per_mac)
        self._benches, self._light, self._seed = self._benches.at(photons_per_mac), {}, seed
        self.bench = self._benches.bench
        self.waiting.clear()
        for name, layer in self.by_name.items():
            layer.begin_anew(self._benches, self._noise(name, begins_anew=True))

    def matrix(self, name: str, weight: Tensor) -> OpticalMatrix:
        """A matrix on the bench."""
        product = name.partition(REPLICA)[0]
        made = OpticalMatrix(
            name, weight, self._benches_for(product), self._noise(name), self._ranges.get(product), self._leave
        )
        self.by_name[name] = made
        return made

    def pair(self, name: str) -> OpticalPair:
        """An attention product on the bench."""
        product = name.partition(REPLICA)[0]
        made = OpticalPair(name, self._benches_for(product), self._noise(name), self._ranges.get(product), self._leave)
        self.by_name[name] = made
        return made

    def reseed(self, seed: int) -> None:
        """Begin the noise of every layer anew."""
        self._seed = seed
        self.waiting.clear()
        for name, layer in self.by_name.items():
            layer.noise = self._noise(name, begins_anew=True)

    def _leave(self, why: str, macs: int, here: str) -> None:
        assert self.routing is not None
        self.routing.leave(why, macs, here)

    def _benches_for(self, name: str) -> Benches:
        if not self._light:
            return self._benches
        light = self._light.get(name, self._light.get(OTHERS))
        if light is None:
            raise OutOfDomain(
                "no light is stated for a product",
                device=name,
                expected=f"one of {', '.join(sorted(self._light))}",
                seen=name,
                hint=f'measure the budget on this model, name it in keep, or give all others light: "{OTHERS}"',
            )
        return self._benches.at(light)

    def _noise(self, name: str, begins_anew: bool = False) -> Noise:
        """Of the seed and the name alone, whichever product runs first."""
        if name in self.by_name and not begins_anew:
            return self.by_name[name].noise  # the model had it once: what was drawn is not drawn again
        if name in self.waiting:
            return self.waiting.pop(name)
        digest = hashlib.sha256(name.encode()).digest()[:8]
        first, second = np.random.SeedSequence([self._seed, *digest]).generate_state(2)
        return Noise((int(first), int(second)))


def layers_of(model: nn.Module) -> Layers:
    """The optical layers of what `opticalize` returned.

    Raises
    ------
    OutOfDomain
        For a model that is not optical, and for a part of one: its light is that of the whole.
    """
    layers, part = _layers_and_part(model)
    if part:
        raise OutOfDomain(
            "a part of a model in light has no light and no noise of its own",
            device=part,
            expected="the model that opticalize returned",
            seen=f"{type(model).__name__}, a part of it",
            hint="hand over the whole model; optical_report and reset_optical_report take a part, too",
        )
    return layers


def _layers_and_part(model: nn.Module) -> tuple[Layers, str]:
    """The optical layers that a model has, and its name in what `opticalize` returned; empty if it is just that."""
    found = getattr(model, "optical_layers", None)
    if isinstance(found, Layers):
        return found, ""
    routing = routing_of(model) if isinstance(model, nn.Module) else None
    if routing is not None and isinstance(found := getattr(routing.model, "optical_layers", None), Layers):
        for name, module in routing.model.named_modules():
            if module is model:
                return found, name
    inside = [
        name
        for name, module in (model.named_modules() if isinstance(model, nn.Module) else ())
        if isinstance(vars(module).get("optical_layers"), Layers)
    ]
    raise OutOfDomain(
        "the model is not optical",
        seen=f"{type(model).__name__}, in which {inside[0]} is" if inside else type(model).__name__,
        hint=f"hand over its {inside[0]}" if inside else "opticalize(model, calibration)",
    )


def _names_in(routing: Routing, model: nn.Module, part: str) -> set[str]:
    """Names of the products and modules of a part, and of the matrices that it shares with other parts."""
    done = routing.conversion
    names = {*done.optical, *done.digital, *done.digital_macs, *done.by_elements}
    if not part:
        return names
    own, whole = {id(p) for p in model.parameters()}, dict(routing.model.named_parameters(remove_duplicate=False))
    shared = {name for key, (name, _) in routing.prepared.matrices.items() if id(whole.get(key[0])) in own}
    return {name for name in names if name in shared or re.match(re.escape(part) + r"(?![^.\[ ])", name)}
