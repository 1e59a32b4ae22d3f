"""What the shot noise of each kind of product costs a model, document by document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from calibration.errors import OutOfDomain
from simulation.scaling.documents import Windows
from simulation.scaling.expansion import KINDS, Kind, Probe, TinyNoise
from simulation.scaling.store import Format, Store, finite

Float = NDArray[np.float64]


@dataclass(frozen=True)
class DocumentCosts:
    """Of one model.

    Attributes
    ----------
    documents, tokens, nats
        Names; tokens scored and nats without noise of each of D documents.
    kl, loss
        C of each kind of product that the model has: D sums over the tokens of a document.
    macs
        Multiply–accumulates of each kind while the text was read once.
    """

    documents: tuple[str, ...]
    tokens: tuple[float, ...]
    nats: tuple[float, ...]
    kl: Mapping[Kind, tuple[float, ...]]
    loss: Mapping[Kind, tuple[float, ...]]
    macs: Mapping[Kind, int]

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Of the products of the model."""
        return tuple(kind for kind in KINDS if kind in self.kl)

    def cost(self, kind: Kind, weights: Float | None = None, metric: str = "kl") -> Float:
        """C per token [nats per token at one photon per MAC and pass].

        Parameters
        ----------
        weights
            (…, D) how often each document counts; once if None.
        """
        weights = np.ones(len(self.tokens)) if weights is None else weights
        return np.asarray(weights @ np.array(getattr(self, metric)[kind]) / (weights @ np.array(self.tokens)))


def cost_by_document(
    model: nn.Module,
    windows: Windows,
    names: Sequence[str],
    *,
    clip: tuple[float, float] = (100.0, 100.0),
    quantum_efficiency: float = 1.0,
    seed: int = 0,
) -> DocumentCosts:
    """Measure the cost of each kind of product, all products of a kind noisy at once.

    Parameters
    ----------
    names
        Of the documents, by number.
    clip, quantum_efficiency, seed
        As for `simulation.scaling.expansion.expand`.

    Raises
    ------
    OutOfDomain
        When no product of the model would be in light.
    BadOperands
        When the model's answer is not finite.
    """
    noise = TinyNoise(clip, quantum_efficiency, seed)
    probe = Probe.of(model, noise, list(windows.batches))
    if not noise.kinds:
        raise OutOfDomain("no product of this model would be in light", seen=type(model).__name__)
    read = sorted(set(windows.documents.tolist()))

    def summed(of_windows: Float) -> tuple[float, ...]:
        return tuple(np.bincount(windows.documents, of_windows, len(names))[read].tolist())

    found = {}
    for kind in KINDS:
        active = frozenset(name for name, its in noise.kinds.items() if its == kind)
        if active:
            found[kind] = probe.of_windows(active)
    return DocumentCosts(
        documents=tuple(names[number] for number in read),
        tokens=summed(probe.tokens),
        nats=summed(probe.nats),
        kl={kind: summed(kl) for kind, (kl, _) in found.items()},
        loss={kind: summed(loss) for kind, (_, loss) in found.items()},
        macs={kind: sum(m for name, m in probe.macs.items() if noise.kinds[name] == kind) for kind in found},
    )


class DocumentCostStore(Store[DocumentCosts]):
    """A folder of costs by what they were measured on."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, _FORMAT)


def _unpack(document: Mapping[str, Any]) -> DocumentCosts:
    found = document["costs"]
    names = tuple(map(str, found["documents"]))

    def numbers(values: Sequence[float]) -> tuple[float, ...]:
        if len(values) != len(names):
            raise ValueError("documents")
        return tuple(map(finite, values))

    def by_kind(values: Mapping[Kind, Sequence[float]]) -> dict[Kind, tuple[float, ...]]:
        return {kind: numbers(values[kind]) for kind in KINDS if kind in values}

    macs = {kind: int(found["macs"][kind]) for kind in KINDS if kind in found["macs"]}
    kl, loss = by_kind(found["kl"]), by_kind(found["loss"])
    if not macs or not macs.keys() == kl.keys() == loss.keys():
        raise ValueError("kinds")
    return DocumentCosts(names, numbers(found["tokens"]), numbers(found["nats"]), kl, loss, macs)


_FORMAT = Format[DocumentCosts](
    schema="labctl.scaling-documents/1",
    suffix=".documents.json",
    about="about",
    pack=lambda found: {"costs": asdict(found)},
    unpack=_unpack,
    signed=lambda document: document["costs"],
)
