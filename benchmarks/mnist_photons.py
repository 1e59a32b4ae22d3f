"""How many photons does a digit take? A 784-100-100-10 network under the preset ``paper``, against the 2022 table.

Wang et al., Nat. Commun. 13, 123 (2022) simulate the accuracy of such a network on MNIST for photons per multiplication
from 0.1 to 100; here the same network runs under the preset, sign by sign. Compared is where on the axis of light the
accuracy comes, as fractions of what it is without want of light.

MNIST is not on package indexes. ``--mnist FOLDER`` takes its four idx files (gzip or not); without it, scikit-learn's
1,797 digits of 8 × 8 pixels, enlarged to 20 × 20 on 28 × 28, stand in: fewer and coarser, so that the best accuracy is
lower and the network, trained on 1,200 of them, less sure of itself. Neither is the table's training known, nor its
encoding of signs: equal curves are not to be expected, the place of the rise is.

    python benchmarks/mnist_photons.py [--mnist FOLDER] [--json] [--quick]
"""

from __future__ import annotations

import gzip
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from _common import Figure, figure, parser, show
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from simulation.conversion.optical import opticalize

TABLE = {
    0.1: 0.1298, 0.25: 0.209, 0.63: 0.485, 1.0: 0.679, 1.58: 0.851, 2.0: 0.893, 2.5: 0.934, 4.0: 0.964, 6.3: 0.978,
    10.0: 0.983, 100.0: 0.989,
}  # fmt: skip
CHANCE = 0.1
SHARES = (0.5, 0.9)
FACTOR = 2.0
STEPS, STEPS_QUICK, BATCH = 3000, 1000, 64
DRAWS = 5
TRAINED_ON = 1200  # of scikit-learn's digits

Images = tuple[Tensor, Tensor]  # (n, 784) in 0 … 1, (n,) what they show


def mnist(folder: Path) -> tuple[Images, Images]:
    """Training and test set from idx files."""
    found = []
    for name in ("train", "t10k"):
        images, labels = _idx(folder, f"{name}-images-idx3"), _idx(folder, f"{name}-labels-idx1")
        found.append((torch.from_numpy(images.reshape(len(images), -1) / np.float32(255)), torch.tensor(labels).long()))
    return found[0], found[1]


def _idx(folder: Path, name: str) -> NDArray[np.uint8]:
    found = sorted(path for path in folder.iterdir() if path.name.replace(".idx", "-idx").startswith(name))
    if not found:
        raise SystemExit(f"{folder} holds no {name}-ubyte[.gz]")
    data = found[0].read_bytes()
    data = gzip.decompress(data) if found[0].suffix == ".gz" else data
    axes = data[3]
    shape = np.frombuffer(data, ">i4", axes, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)


def digits() -> tuple[Images, Images]:
    """scikit-learn's digits in the frame of MNIST's."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise SystemExit("no images: pip install scikit-learn, or --mnist FOLDER with MNIST's idx files") from error
    found = load_digits()
    small = torch.from_numpy(found.images / 16).float()[:, None]
    images = functional.pad(functional.interpolate(small, size=(20, 20), mode="bilinear"), (4, 4, 4, 4)).flatten(1)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    labels = torch.from_numpy(found.target).long()
    train, test = order[:TRAINED_ON], order[TRAINED_ON:]
    return (images[train], labels[train]), (images[test], labels[test])


def trained(images: Tensor, labels: Tensor, steps: int) -> nn.Module:
    """The network, trained in float on images shifted by up to two pixels."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    widths = (784, 100, 100, 10)
    layers = [part for k, m in pairwise(widths) for part in (nn.Linear(k, m), nn.ReLU())]
    model = nn.Sequential(*layers[:-1])
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.02)
    for _ in range(steps):
        batch = torch.randint(len(images), (BATCH,), generator=generator)
        shift = torch.randint(-2, 3, (2,), generator=generator).tolist()
        x = images[batch].view(-1, 28, 28).roll(shift, (1, 2)).flatten(1)
        loss = functional.cross_entropy(model(x), labels[batch])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return model.eval()


def accuracy(model: nn.Module, test: Images) -> float:
    with torch.inference_mode():
        return float((model(test[0]).argmax(1) == test[1]).float().mean())


def photons_at(share: float, course: dict[float, float]) -> float:
    """Photons per MAC at which the accuracy has come that far from chance to its best, between points of a course."""
    wanted = CHANCE + share * (max(course.values()) - CHANCE)
    return float(np.exp(np.interp(wanted, np.maximum.accumulate(list(course.values())), np.log(list(course)))))


def measured(folder: Path | None, quick: bool) -> list[Figure]:
    train, test = mnist(folder) if folder else digits()
    model = trained(*train, STEPS_QUICK if quick else STEPS)
    optical = {n: opticalize(model, "paper", photons_per_mac=n) for n in TABLE}
    course = {n: float(np.mean([accuracy(layers, test) for _ in range(DRAWS)])) for n, layers in optical.items()}
    figures = [
        figure("images the network was trained on", len(train[0]), "1"),
        figure("accuracy in float", accuracy(model, test), "1"),
        figure("standard error of an accuracy of 0.5, by the images tested", 0.5 / np.sqrt(len(test[0])), "1"),
    ]
    figures += [figure(f"accuracy at {n:g} photons per MAC (table: {TABLE[n]:.4g})", course[n], "1") for n in TABLE]
    for share in SHARES:
        ratio = photons_at(share, course) / photons_at(share, TABLE)
        reached = 1 / FACTOR <= ratio <= FACTOR
        name = f"photons for {share:.0%} of the way from chance to the best accuracy, over the table's"
        figures.append(figure(name, ratio, "1", f"{1 / FACTOR:g} … {FACTOR:g}", reached))
    return figures


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--mnist", type=Path, help="folder of MNIST's idx files; scikit-learn's digits if left out")
    given = options.parse_args()
    torch.set_num_threads(1)
    show("mnist_photons", lambda: measured(given.mnist, given.quick), given.json)


if __name__ == "__main__":
    main()
