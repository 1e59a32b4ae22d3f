"""What each assumption of the energy model moves: GPT-2, GPT-3 and 10¹⁵ parameters, one line for each step.

    python benchmarks/energy_corrections.py

Each line keeps what the lines above it assume. The first is the kindest machine: no limit of size, receivers without
noise, every matrix busy at all times.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from labctl.resources import data_path
from labctl.studies.energy import REFERENCES, scenario
from labctl.studies.quantities import joules, times
from labctl.studies.traced import DIGITAL
from simulation.energy.constants import Components
from simulation.energy.machine import Machine, PhotonLaw
from simulation.energy.operations import Operations
from simulation.energy.pricing import price_digital, price_optical
from simulation.energy.shapes import load_shapes, operations_of

SHAPES = "gpt2", "gpt3-175b", "future-1e15"
LAW = PhotonLaw(1.0, 12288, 1.0)


def steps(name: str) -> Iterator[tuple[str, Machine, Components, str]]:
    """Words, machine, constants, and the processor beside it and against it."""
    known = scenario(None, name)
    silent = replace(known["receiver.noise"], value=1e-6, low=1e-6, high=1e-6)
    quiet = replace(known, constants={**known.constants, "receiver.noise": silent})
    machine = Machine(LAW, known.bits, None, digital=DIGITAL)
    yield "no limit, no receiver noise, pipelined", machine, quiet, REFERENCES[0]
    yield "+ noise of the receivers", machine, known, REFERENCES[0]
    machine = replace(machine, array=(10_000, 10_000))
    yield "+ arrays of 10,000 × 10,000", machine, known, REFERENCES[0]
    machine = replace(machine, array=(1024, 1024))
    yield "+ arrays of 1,024 × 1,024", machine, known, REFERENCES[0]
    yield "  the same beside and against an H100", machine, known, "digital.h100"
    yield "+ matrices held in turn", replace(machine, schedule="in turn"), known, REFERENCES[0]


def main() -> None:
    """Print the table of every scenario."""
    shapes = load_shapes(data_path("energy/models.toml"))
    counted: dict[str, Operations] = {name: operations_of(shapes[name].config) for name in SHAPES}
    for name in ("today", "scaled-optics", "future"):
        print(f"\n{name}: energy per token, and how many times less than digital (300 fJ/MAC)")
        print(f"{'':44}" + "".join(f"{shape:>26}" for shape in SHAPES))
        for words, machine, components, reference in steps(name):
            cells = []
            for operations in counted.values():
                light = price_optical(operations, machine, components, reference).total_j
                ratio = price_digital(operations, components, reference).total_j / light
                cells.append(f"{joules(light / operations.tokens):>12} {times(ratio):>13}")
            print(f"{words:44}" + "".join(cells))


if __name__ == "__main__":
    main()
