"""What each assumption of the energy model moves: GPT-2, GPT-3 and 10¹⁵ parameters, one line for each step.

    python benchmarks/energy_corrections.py

Each line keeps what the lines above it assume, but for indented ones, which stand aside. The first is the kindest
machine: matrix products alone, no limit of size, receivers without noise, every matrix busy at all times, and the light
that the article claims.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from labctl.studies.energy import REFERENCES, need_of, scenario
from labctl.studies.light import CLAIMED, Measured
from labctl.studies.quantities import joules, times
from labctl.studies.serving import Conversation
from labctl.studies.traced import DIGITAL, Traced, known_shapes, of_decoder
from simulation.energy.constants import Components
from simulation.energy.machine import Machine
from simulation.energy.operations import Operations
from simulation.energy.pricing import price_digital, price_optical

SHAPES = "gpt2", "gpt3-175b", "future-1e15"
SCENARIOS = "today", "scaled-optics", "future"
H100 = "digital.h100"
TALK = Conversation(512, 256)


@dataclass(frozen=True)
class Step:
    """One line: what is computed, on which machine of which constants, beside and against which processors."""

    words: str
    operations: Operations
    machine: Machine
    components: Components
    beside: str = REFERENCES[0]
    against: str = REFERENCES[0]

    def cells(self) -> tuple[float, float]:
        """Energy of a token in light [J], and how many times less that is than digital."""
        light = price_optical(self.operations, self.machine, self.components, self.beside).total_j
        digital = price_digital(self.operations, self.components, self.against).total_j
        return light / self.operations.tokens, digital / light


def steps(name: str, traced: Traced) -> Iterator[Step]:
    """All lines of a scenario for one model."""
    known = scenario(None, name)
    silent = replace(known["receiver.noise"], value=1e-6, low=1e-6, high=1e-6)
    quiet = replace(known, constants={**known.constants, "receiver.noise": silent})
    whole = traced.operations
    machine = Machine(CLAIMED, known.bits, None, digital=DIGITAL)
    yield Step("matrix products, no limits, light as 1/d", replace(whole, elementwise={}), machine, quiet)
    yield Step("+ softmax, norms, activations, residuals", whole, machine, quiet)
    yield Step("+ noise of the receivers", whole, machine, known)
    machine = replace(machine, array=(10_000, 10_000))
    yield Step("+ arrays of 10,000 × 10,000", whole, machine, known)
    machine = replace(machine, array=(1024, 1024))
    yield Step("+ arrays of 1,024 × 1,024", whole, machine, known)
    yield Step("    against an H100, head at 300 fJ/MAC", whole, machine, known, against=H100)
    yield Step("    against an H100, head on an H100", whole, machine, known, H100, H100)
    yield Step("    matrices held in turn", whole, replace(machine, schedule="in turn"), known)
    yield Step("    every matrix reloaded for each pass", whole, replace(machine, weights="reloaded"), known)
    light = need_of(traced, machine, Measured()).law
    yield Step("+ photons by the measured law", whole, replace(machine, photons=replace(light, efficiency=None)), known)
    machine = replace(machine, photons=light)
    yield Step("+ as many electrons, by detectors of its own", whole, machine, known)
    talk = traced.in_conversation(TALK).operations
    alone = replace(talk, is_served=False, cache_read=0, cache_written=0)
    yield Step("+ token by token, nothing fetched", alone, machine, known)
    yield Step("+ matrices and cache fetched for each token", talk, machine, known)
    yield Step("    the cache on modulators", talk, replace(machine, cache="held"), known)
    yield Step("    and the head in light", talk, replace(machine, cache="held", digital=()), known)


def main() -> None:
    """Print the table of every scenario."""
    shapes = known_shapes()
    traced = [of_decoder(shapes[name]) for name in SHAPES]
    for name in SCENARIOS:
        print(f"\n{name}: energy per token, and times less than digital (300 fJ/MAC)")
        print(f"{'':44}" + "".join(f"{shape:>24}" for shape in SHAPES))
        for line in zip(*(steps(name, each) for each in traced), strict=True):
            cells = (step.cells() for step in line)
            print(f"{line[0].words:44}" + "".join(f"{joules(j):>11} {times(ratio):>12}" for j, ratio in cells))


if __name__ == "__main__":
    main()
