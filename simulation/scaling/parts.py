"""Score a text part by part, anywhere: what `labctl simulate` computes, cut so that workers can share it.

A part is one batch of windows on one machine. Its noise goes on where that of the batch before ended, so that parts,
wherever they were computed, give the numbers of one run from beginning to end.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from simulation.benches.imported import Imported
from simulation.conversion.optical import (
    load_optical_state,
    optical_report,
    optical_state,
    opticalize,
    reseed,
    reset_optical_report,
    set_light,
)
from simulation.conversion.quantise import quantise_int8
from simulation.conversion.ranges import Ranges
from simulation.conversion.report import OpticalReport
from simulation.evaluation.perplexity import batches, require_text, window_sums
from simulation.light.accounting import Tally
from simulation.light.optics import Optics
from simulation.light.tensors.devices import device_of
from simulation.scaling.evaluate import Reader
from simulation.scaling.points import DIGITAL, INT8
from simulation.scaling.store import Format, Store, finite

OPTICAL, DRAWN = "optical", "drawn"
"""Machines in light: the bench as it is known, and a bench that it may be as well, by what is not known of it."""
SCHEMA = "labctl.simulated-part/1"

State = tuple[tuple[str, int, int, int], ...]
"""Of the noise, by layer: its name, the two words of its key, and how much of it is used."""


@dataclass(frozen=True)
class Part:
    """What is computed.

    Attributes
    ----------
    about
        Digest of all that the parts of a simulation have in common: see `Subject.about`.
    machine
        One of `DIGITAL`, `INT8`, `OPTICAL`, `DRAWN`.
    photons_per_mac
        At the weight plane; None for the bench's own light, or none.
    batch
        Which batch of windows.
    start
        The noise before it; empty where nothing is drawn, or nothing has been.
    code
        `simulation.scaling.fingerprint.code_version`.
    """

    about: str
    machine: str
    photons_per_mac: float | None
    batch: int
    start: State
    code: str


@dataclass(frozen=True)
class Scores:
    """What a part found.

    Attributes
    ----------
    nats, tokens
        Of each window: the sum of the nats, and how many tokens were scored.
    end
        The noise after it; empty where nothing is drawn.
    report
        What was in light and what was not, all layers together; None of a machine without light. What was not measured
        of the bench follows from the light of all parts.
    """

    nats: tuple[float, ...]
    tokens: tuple[float, ...]
    end: State
    report: OpticalReport | None


@dataclass(frozen=True)
class Subject:
    """What all parts refer to: a model on a text, and the machine. It travels as arrays.

    Attributes
    ----------
    model
        In evaluation mode.
    ids
        (N,) the text.
    context
        Longest window [tokens].
    bench, encoding, ranges, seed
        As of `simulation.conversion.optical.opticalize`.
    device
        Where model and light are computed.
    """

    model: nn.Module
    ids: Sequence[int]
    context: int
    bench: Optics | Imported
    encoding: str | None
    ranges: Mapping[str, Ranges]
    seed: int
    device: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "_shown", _Shown(self))

    def __reduce__(self) -> Any:
        reader = Reader.of(self.model, list(self.ids))
        return _arrived, (reader, *(getattr(self, field.name) for field in fields(self)[2:]))

    @property
    def about(self) -> str:
        """Digest of the model, the text and the machine."""
        sha256 = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            sha256.update(f"{name} {tensor.dtype}".encode())
            sha256.update(np.ascontiguousarray(tensor.cpu().float().numpy()).data)
        config: Any = self.model.config
        stated = config.to_dict() if hasattr(config, "to_dict") else asdict(config)
        ranges = {name: asdict(each) for name, each in self.ranges.items()}
        bench = self.bench.name, self._levels, self.bench.clip, self.encoding, ranges, self.seed, self.device
        about = json.dumps([stated, list(self.ids), self.context, bench], sort_keys=True, default=str)
        return hashlib.sha256(sha256.digest() + about.encode()).hexdigest()

    @property
    def _levels(self) -> tuple[str, ...]:
        """Digests of what the panels of a bench can show, which its name does not say: it may be set to fewer bits."""
        panels = () if isinstance(self.bench, Imported) else (self.bench.display, self.bench.slm)
        return tuple(hashlib.sha256(panel.levels.shown.tobytes()).hexdigest() for panel in panels)

    @property
    def batches(self) -> int:
        """See `batches_of`."""
        return batches_of(self.ids, self.context)

    def score(self, part: Part) -> Scores:
        """Read the batch of a part on its machine.

        Raises
        ------
        BadOperands
            If the model answers with NaN.
        """
        shown: _Shown = vars(self)["_shown"]
        with shown.lock:  # a worker may have several threads, and there is one model
            model = shown.on(part)
            inputs, targets = next(islice(_batches(self.ids, self.context), part.batch, None))
            nats, scored = window_sums(model, inputs, targets)
            in_light = part.machine in (OPTICAL, DRAWN)
            end = state_of(model) if in_light else ()
            report = replace(optical_report(model), layers={}, not_measured=()) if in_light else None
        return Scores(tuple(nats.tolist()), tuple(scored.tolist()), end, report)


def batches_of(ids: Sequence[int], context: int) -> int:
    """Into how many batches of windows a text falls.

    Raises
    ------
    BadOperands
        If it has fewer than two tokens.
    """
    require_text(ids, context, context)
    return sum(1 for _ in _batches(ids, context))


def _batches(ids: Sequence[int], context: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    return batches(torch.as_tensor(ids, dtype=torch.long), context, context)


class _Shown:
    """The subject's model on the machines that it was scored on last: matrices in light stay from part to part."""

    def __init__(self, subject: Subject) -> None:
        self.lock = threading.Lock()
        self._subject = subject
        self._made: dict[str, nn.Module] = {}
        self._light: float | None = None

    def on(self, part: Part) -> nn.Module:
        """The model on the machine of a part, with its noise where the part begins."""
        subject = self._subject
        if part.machine == OPTICAL and part.photons_per_mac is None and self._light is not None:
            self._made.pop(OPTICAL, None)  # from a stated light there is no way back to the bench's own
        if part.machine not in self._made:
            self._made[part.machine] = self._make(part.machine)
            self._light = None if part.machine == OPTICAL else self._light
        model = self._made[part.machine]
        if part.machine not in (OPTICAL, DRAWN):
            return model
        if part.photons_per_mac is not None and part.photons_per_mac != self._light:
            set_light(model, part.photons_per_mac, seed=subject.seed)
            self._light = part.photons_per_mac
        reseed(model, subject.seed)
        begun = {name: (first, second, calls) for name, first, second, calls in part.start}
        load_optical_state(model, {**optical_state(model), **begun})
        reset_optical_report(model)
        return model

    def _make(self, machine: str) -> nn.Module:
        subject, model = self._subject, self._subject.model.to(device_of(self._subject.device))
        if machine == DIGITAL:
            return model
        if machine == INT8:
            return quantise_int8(model, clip=subject.bench.clip)
        if machine == DRAWN and isinstance(subject.bench, Imported):
            drawn = replace(subject.bench, device_seed=subject.seed)
            return opticalize(model, drawn, seed=subject.seed, encoding=subject.encoding)
        return opticalize(
            model, subject.bench, seed=subject.seed, encoding=subject.encoding, ranges=dict(subject.ranges)
        )


def _arrived(reader: Reader, *more: Any) -> Subject:
    """A subject on a worker."""
    return Subject(reader.model(), reader.ids.tolist(), *more)


def state_of(model: nn.Module) -> State:
    """The noise of a model in light, as it is now."""
    return tuple(sorted((name, *words) for name, words in optical_state(model).items()))


def later(state: State, once: State, times: int) -> State:
    """The noise ``times`` batches after ``state``, if each uses as much as the first did, which ended ``once``."""
    used = {name: calls for name, _, _, calls in once}
    return tuple((name, first, second, calls + times * used.get(name, 0)) for name, first, second, calls in state)


def together(reports: Sequence[OpticalReport]) -> OpticalReport:
    """What was in light and what was not in all parts of a text."""
    total, digital, uncounted = Tally(), dict[str, str](), set[str]()
    macs, by_elements = Counter[str](), Counter[str]()
    for report in reports:
        total += report.total
        macs.update(report.digital_macs)
        by_elements.update(report.by_elements)
        digital |= report.digital
        uncounted |= set(report.uncounted)
    return replace(
        reports[-1], digital=digital, digital_macs=dict(macs), uncounted=tuple(sorted(uncounted)), total=total,
        by_elements=dict(by_elements),
    )  # fmt: skip


class PartStore:
    """A folder of parts; several simulations may use it at once.

    Parameters
    ----------
    folder
        Made when the first part is written.
    """

    def __init__(self, folder: Path) -> None:
        self._kept = Store(folder, _FORMAT)

    def path(self, part: Part) -> Path:
        """Where the part lies, or will."""
        return self._kept.path(_stated(part))

    def load(self, part: Part) -> Scores | None:
        """The result, or None if it is not there or cannot be trusted."""
        return self._kept.load(_stated(part))

    def save(self, part: Part, scores: Scores) -> None:
        """Write the result whole or not at all.

        Raises
        ------
        OSError
            Disk full, not writable.
        """
        self._kept.save(_stated(part), scores)


def _stated(part: Part) -> dict[str, Any]:
    """As JSON; the noise by its digest, for it is long."""
    start = hashlib.sha256(json.dumps(part.start).encode()).hexdigest()
    return {**asdict(replace(part, start=())), "start": start}


def _pack(scores: Scores) -> dict[str, Any]:
    report = scores.report
    told = None if report is None else {k: v for k, v in asdict(report).items() if k not in ("layers", "total")}
    if told is not None and report is not None:
        told["total"] = {k: v for k, v in asdict(report.total).items() if not k.startswith("_")}
    return {"scores": {"nats": scores.nats, "tokens": scores.tokens, "end": scores.end, "report": told}}


def _unpack(document: Mapping[str, Any]) -> Scores:
    found = document["scores"]
    nats, tokens = ([finite(value) for value in found[name]] for name in ("nats", "tokens"))
    if not nats or len(nats) != len(tokens) or not min(tokens) > 0:
        raise ValueError(SCHEMA)
    end = tuple((str(name), int(first), int(second), int(calls)) for name, first, second, calls in found["end"])
    told = found["report"]
    if told is None:
        return Scores(tuple(nats), tuple(tokens), end, None)
    lists = {name: tuple(told[name]) for name in ("optical", "uncounted", "not_measured")}
    report = OpticalReport(**{**told, **lists, "layers": {}, "total": Tally(**told["total"])})
    return Scores(tuple(nats), tuple(tokens), end, report)


_FORMAT = Format[Scores](
    schema=SCHEMA,
    suffix=".part.json",
    about="part",
    pack=_pack,
    unpack=_unpack,
    signed=lambda document: document["scores"],
)
