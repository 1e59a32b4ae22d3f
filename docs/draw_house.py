"""Draw the packages, their rooms and who imports whom, from the code: ``python docs/draw_house.py`` writes house.png.

A room is a folder of a package. An arrow goes from a room to a room that it imports; one that other arrows imply is
left out. An arrow between packages goes straight down, past those that it does not concern. Modules that lie beside the
rooms are named at the foot of their package.
"""

from __future__ import annotations

import ast
import json
import sys
import textwrap
import tomllib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

ROOT = Path(__file__).parent.parent
PICTURE = Path(__file__).parent / "house.png"
GRAPH = "graph"
"""The key under which the picture keeps what it shows, so that a test can tell whether it is current."""
LEGEND = "An arrow goes to what is\nimported; arrows that\nothers imply are left out."
WIDTH, HEIGHT, GAP = 1.9, 0.45, 0.4
"""Of a room and between floors [in]."""

Edges = Mapping[str, Collection[str]]


class Frame(NamedTuple):
    """The box of a package: left lower corner and size [in]."""

    left: float
    bottom: float
    width: float
    height: float


def packages() -> list[str]:
    """The packages of the house, as the import contracts name them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return list(project["tool"]["importlinter"]["root_packages"])


def rooms() -> dict[str, list[str]]:
    """Package → its rooms: the folders in it that are packages themselves."""
    return {name: sorted(path.parent.name for path in (ROOT / name).glob("*/__init__.py")) for name in packages()}


def loose(package: str) -> list[str]:
    """The public modules that lie beside a package's rooms."""
    return sorted(path.stem for path in (ROOT / package).glob("*.py") if not path.stem.startswith("_"))


def graph() -> dict[str, list[str]]:
    """Room → the rooms that it imports, as ``"calibration.fit"``; a package's own name stands for its loose modules."""
    house = rooms()
    every = [f"{package}.{room}" for package, names in house.items() for room in names] + list(house)
    found: dict[str, set[str]] = {name: set() for name in every}
    for package in house:
        for path in sorted((ROOT / package).rglob("*.py")):
            here = _room(path.relative_to(ROOT).with_suffix("").as_posix().replace("/", "."), every)
            tree = ast.parse(path.read_text(encoding="utf-8"))
            found[here] |= {there for name in _imported(tree) if (there := _room(name, every)) not in ("", here)}
    return {name: sorted(targets) for name, targets in sorted(found.items())}


def _room(module: str, every: Collection[str]) -> str:
    """The room that a module lies in, its package if it lies beside the rooms, nothing if it is not ours."""
    parts = module.split(".")
    return next((name for name in (".".join(parts[:2]), parts[0]) if name in every), "")


def _imported(tree: ast.AST) -> Iterator[str]:
    """Modules that a module imports anywhere, but for types only; no expression imports any."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.expr) or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        yield from _imported(node)


def _reachable(start: str, edges: Edges) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        fresh = set(edges.get(waiting.pop(), ())) - found
        found |= fresh
        waiting.extend(fresh)
    return found


def _reduced(edges: Edges) -> dict[str, list[str]]:
    """The edges that no others imply; where a circle is, all of its edges stay."""

    def implied(target: str, name: str) -> bool:
        others = set(edges[name]) - {target} - _circle(target, edges) - _circle(name, edges)
        return any(target in _reachable(other, edges) for other in others)

    return {name: [target for target in targets if not implied(target, name)] for name, targets in edges.items()}


def _circle(name: str, edges: Edges) -> set[str]:
    return {other for other in _reachable(name, edges) if name in _reachable(other, edges)}


def _floors(names: Collection[str], edges: Edges) -> list[list[str]]:
    """Names from the ground up: each stands above what it imports, as near as may be; a circle stands on one floor."""

    def level(name: str) -> int:
        below = [n for n in _reachable(name, edges) & set(names) if name not in _reachable(n, edges)]
        return 1 + max((level(n) for n in below), default=-1)

    levels = {name: level(name) for name in names}
    floors: list[list[str]] = []
    across: dict[str, float] = {}
    for floor in range(max(levels.values(), default=-1) + 1):
        here = sorted(n for n in names if levels[n] == floor)
        floors.append(sorted(here, key=lambda n: _mean([across[t] for t in edges[n] if t in across])))
        across |= {name: (at + 0.5) / len(here) for at, name in enumerate(floors[-1])}
    return floors


def _mean(values: Collection[float]) -> float:
    return sum(values) / len(values) if values else 0.5


def draw(path: Path) -> None:
    """Write the picture."""
    edges, house = graph(), rooms()
    inside = {p: {n: [t for t in edges[n] if _is_room_of(t, p)] for n in edges if _is_room_of(n, p)} for p in house}
    between: dict[str, set[str]] = {package: set() for package in house}
    for name, targets in edges.items():
        package = name.partition(".")[0]
        between[package] |= {target.partition(".")[0] for target in targets} - {package}
    plans = {package: _floors(list(inside[package]), inside[package]) for package in house}
    stories = _floors(list(house), between)
    sizes = {package: _size(plan) for package, plan in plans.items()}
    width = max(sum(sizes[p][0] + GAP for p in story) for story in stories)
    height = sum(max(sizes[p][1] for p in story) + GAP for story in stories)
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(-GAP / 2, height - GAP / 2))
    axes.set_axis_off()
    places: dict[str, tuple[float, float]] = {}
    frames: dict[str, Frame] = {}
    bottom = 0.0
    for story in stories:
        left = (width - sum(sizes[p][0] + GAP for p in story) + GAP) / 2
        for package in story:
            frames[package] = Frame(left, bottom, *sizes[package])
            _package(axes, package, frames[package], plans[package], places)
            left += sizes[package][0] + GAP
        bottom += max(sizes[p][1] for p in story) + GAP
    axes.text(GAP / 2, height - GAP, LEGEND, va="top", fontsize=9, color="#4b5563")
    for package in house:
        for name, targets in _reduced(inside[package]).items():
            for target in targets:
                (x, y), (to_x, to_y) = places[name], places[target]
                _arrow(axes, (x, y - HEIGHT / 2), (to_x, to_y + HEIGHT / 2), color="#6b7280", lw=0.9, zorder=1.5)
    for package, below in _reduced(between).items():
        for target in below:
            start, end = _past_others(package, target, frames)
            _arrow(axes, start, end, color="#c2410c", lw=1.8, zorder=0.5)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=110, metadata={GRAPH: json.dumps(edges)})


def _past_others(package: str, target: str, frames: Mapping[str, Frame]) -> tuple[tuple[float, float], ...]:
    """From the foot of one package to the roof of another: straight down between the others, aslant if need be."""
    start, end = frames[package], frames[target]
    foot, roof = start.bottom, end.bottom + end.height
    left, right = max(start.left, end.left), min(start.left + start.width, end.left + end.width)
    between = [f for f in frames.values() if f.bottom < foot and f.bottom + f.height > roof]
    middle = (left + right) / 2
    for x in sorted(np.linspace(left, right, 201), key=lambda x: abs(x - middle)):
        if left < right and not any(f.left - GAP / 3 < x < f.left + f.width + GAP / 3 for f in between):
            return (x, foot), (x, roof)
    return (start.left + start.width / 2, foot), (end.left + end.width / 2, roof)


def _is_room_of(name: str, package: str) -> bool:
    return name.startswith(package + ".")


def _size(plan: list[list[str]]) -> tuple[float, float]:
    """Width and height of a package [in]."""
    floors = (HEIGHT + GAP) * len(plan) - GAP if plan else 0.0
    return WIDTH * max([1.6, *map(len, plan)]) + 0.5, floors + 0.95


def _package(
    axes: Axes, package: str, frame: Frame, plan: list[list[str]], places: dict[str, tuple[float, float]]
) -> None:
    """A frame with the package's name, its rooms floor by floor, and the modules beside them at its foot."""
    left, bottom, width, height = frame
    style = "round,pad=0,rounding_size=0.12"
    box = (left, bottom), width, height
    axes.add_patch(FancyBboxPatch(*box, boxstyle=style, fc="#f3f4f6", ec="#9ca3af", zorder=1))
    axes.text(left + 0.15, bottom + height - 0.25, package, va="center", fontsize=12, fontweight="bold")
    words = textwrap.wrap(", ".join(loose(package)), int(13 * width), max_lines=2 if plan else 3, placeholder=" …")
    axes.text(left + width / 2, bottom + 0.08, "\n".join(words), ha="center", va="bottom", fontsize=8, color="#4b5563")
    for floor, names in enumerate(plan):
        y = bottom + 0.42 + (HEIGHT + GAP) * floor + HEIGHT / 2
        for at, name in enumerate(names):
            x = left + width * (at + 0.5) / len(names)
            places[name] = x, y
            box = (x - 0.42 * WIDTH, y - HEIGHT / 2), 0.84 * WIDTH, HEIGHT
            axes.add_patch(FancyBboxPatch(*box, boxstyle=style, fc="#dbeafe", ec="#1f6fb2", zorder=2))
            axes.text(x, y, name.partition(".")[2], ha="center", va="center", fontsize=10, zorder=3)


def _arrow(axes: Axes, tail: tuple[float, float], head: tuple[float, float], zorder: float, **style: Any) -> None:
    axes.annotate("", head, tail, zorder=zorder, arrowprops={"arrowstyle": "-|>", "shrinkA": 0, "shrinkB": 0, **style})


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE)
