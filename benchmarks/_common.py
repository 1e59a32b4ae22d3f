"""What every benchmark prints: its figures, the machine, and a verdict where there is a goal."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path
from typing import Any

import numpy as np

Figure = dict[str, Any]


def figure(name: str, value: float, unit: str, goal: str = "", reached: bool | None = None) -> Figure:
    """One line of a benchmark; ``reached`` is None where there is no goal, or nothing was measured."""
    return {
        "name": name,
        "value": rounded(value),
        "unit": unit,
        "goal": goal,
        "reached": None if reached is None else bool(reached),
    }


def rounded(value: float) -> float | None:
    """To four significant digits, and three decimals at least; JSON has no NaN."""
    if not np.isfinite(value):
        return None
    return float(f"{value:.4g}") if abs(value) < 1 else round(float(value), 3)


def machine() -> dict[str, Any]:
    """Where the figures were measured."""
    load: Callable[[], tuple[float, ...]] = getattr(os, "getloadavg", lambda: ())
    return {
        "processor": platform.processor() or platform.machine(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "load_before": [round(value, 2) for value in load()],
    }


def parser(doc: str | None) -> argparse.ArgumentParser:
    """With the options that every benchmark has."""
    found = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    found.add_argument("--json", action="store_true", help="one JSON document on standard output")
    found.add_argument("--quick", action="store_true", help="fewer repetitions, for CI")
    return found


def show(name: str, measured: Callable[[], list[Figure]], as_json: bool) -> bool:
    """Measure, and print one document or a table; returns whether no goal was missed."""
    document = {"name": name, "machine": machine(), "figures": measured()}
    well = all(entry["reached"] is not False for entry in document["figures"])
    if as_json:
        print(json.dumps(document, ensure_ascii=False, allow_nan=False))
        return well
    print(f"load before: {document['machine']['load_before']}")
    width = max(len(entry["name"]) for entry in document["figures"]) + 2
    goals = max(len(entry["goal"]) for entry in document["figures"]) + 2
    for entry in document["figures"]:
        verdict = {True: "reached", False: "MISSED", None: ""}[entry["reached"]]
        value = "–" if entry["value"] is None else f"{entry['value']:.4g}"
        unit = "" if entry["unit"] == "1" else entry["unit"]
        print(f"{entry['name']:<{width}}{value:>10} {unit:<6}{entry['goal']:>{goals}}  {verdict}".rstrip())
    return well


def own_peak_mb() -> float:
    """Peak resident memory of this process [MB].

    On Linux not from ``getrusage``, which counts the parent's memory before exec, too.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024 / 1e6
    import resource

    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e6


def give_way(name: str, here: Path) -> None:
    """Hand over from a script to the package of the same name: scripts in its folder find the script first.

    Parameters
    ----------
    here
        Folder of the script.
    """
    elsewhere = [entry for entry in sys.path if Path(entry or ".").resolve() != here.resolve()]
    spec = PathFinder.find_spec(name, elsewhere)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"the package {name} is not installed: pip install -e .", name=name)
    sys.modules[name] = module = module_from_spec(spec)
    spec.loader.exec_module(module)
