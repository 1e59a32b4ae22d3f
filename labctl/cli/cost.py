"""What it costs: joules of a model in light, against digital processors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labctl.cli.cost_words import against, show
from labctl.cli.handler import MODELS, ForceOption, command
from labctl.lab import Lab

if TYPE_CHECKING:
    from labctl.studies.light import LightSource
    from labctl.studies.serving import Conversation
    from simulation.energy.constants import Components
    from simulation.energy.machine import Machine


class Place(StrEnum):
    """Where matrices are that not every token needs, or that grow."""

    HELD = "held"
    RELOADED = "reloaded"


def register(app: typer.Typer) -> None:
    """Add the command to the top of the command line."""
    command(app, energy.__name__)(energy)


@dataclass(frozen=True)
class LightOptions:
    """How much light the model gets."""

    photons: Annotated[
        float | None,
        typer.Option(
            "--photons-per-mac",
            help="At the weight plane, per MAC and pass, at --at-width; by the measured law if left out.",
        ),
    ] = None  # fmt: skip
    at_width: Annotated[
        float | None, typer.Option("--at-width", min=1, help="Length of sum that this holds for; 12288.")
    ] = None
    exponent: Annotated[
        float | None,
        typer.Option("--exponent", help="Photons per MAC fall as length to minus this; 1 is the paper's claim."),
    ] = None
    law: Annotated[
        Path | None, typer.Option("--law", help="A law.json that labctl scaling wrote; the one that ships.")
    ] = None
    tolerance: Annotated[
        float | None,
        typer.Option("--tolerance", min=1e-6, max=10, help="Of the measured law: perplexity above digital; 0.05."),
    ] = None

    def source(self) -> LightSource:
        """Stated if photons are given, measured otherwise."""
        from labctl.errors import UsageError
        from labctl.studies.light import CLAIMED, TOLERANCE, Measured, Stated
        from simulation.energy.machine import PhotonLaw

        stated, measured = (self.at_width, self.exponent), (self.law, self.tolerance)
        if any(each is not None for each in (stated if self.photons is None else measured)):
            raise UsageError(
                "light is stated or measured", expected="--photons-per-mac, or --law, --tolerance",
                seen="some of both",
                hint="--photons-per-mac 1 --at-width 12288 --exponent 1",
            )  # fmt: skip
        if self.photons is not None:
            from labctl.studies.simulate import light_levels

            light_levels([f"{self.photons:g}"])
            return Stated(PhotonLaw(self.photons, self.at_width or CLAIMED.at_width, _or(self.exponent, 1.0)))
        return Measured(self.law, _or(self.tolerance, TOLERANCE))


@dataclass(frozen=True)
class OpticalMachine:
    """The options that describe the machine in light."""

    name: Annotated[
        str | None, typer.Option("--machine", help="Another machine of the table, with its own array and converters.")
    ] = None
    bits: Annotated[
        str | None,
        typer.Option(
            "--bits", metavar="N[,N,N]",
            help="Of inputs, weights and outputs, converters scaled to them, 1 to 32: 4, or 4,4,8; the scenario's if "
            "left out.",
        ),
    ] = None  # fmt: skip
    array: Annotated[
        str | None,
        typer.Option("--array", metavar="ROWSxCOLUMNS", help="Macropixels at a time, or unlimited; 1024x1024."),
    ] = None
    tile: Annotated[
        int | None,
        typer.Option(
            "--tile", min=1, metavar="INPUTS",
            help="Inputs that share a scale: each such tile is read by itself (tiled-scales). All, if left out.",
        ),
    ] = None  # fmt: skip
    reload: Annotated[
        bool, typer.Option("--reload", help="Write every matrix for every forward pass instead of holding it.")
    ] = False
    in_turn: Annotated[
        bool,
        typer.Option("--in-turn", help="Charge for held matrices while others compute, too: no pipeline."),
    ] = False
    cache: Annotated[
        Place | None, typer.Option("--cache", help="With --generate: earlier keys and values, if left out reloaded.")
    ] = None
    experts: Annotated[
        Place, typer.Option("--experts", help="Of a mixture: idle ones on modulators, or written when asked.")
    ] = Place.HELD

    @property
    def usage(self) -> dict[str, Any]:
        """How the machine is used, whichever it is."""
        stated: dict[str, Any] = {
            "schedule": "in turn" if self.in_turn else "pipelined",
            "cache": (self.cache or Place.RELOADED).value,
            "experts": self.experts.value,
        }
        if self.reload:
            stated["weights"] = "reloaded"
        if self.bits is not None:
            from labctl.studies.resolution import bits_stated
            from simulation.energy.constants import MOST_BITS
            from simulation.energy.machine import Words

            stated["bits"] = Words(*bits_stated(self.bits, 1, MOST_BITS))
        return stated

    def priced(self, scenario: str, table: Path | None) -> tuple[Machine, Components]:
        """The machine, without light yet, and its constants."""
        from labctl.errors import UsageError
        from labctl.studies.energy import machine_named
        from labctl.studies.energy import scenario as components_of
        from labctl.studies.light import CLAIMED
        from labctl.studies.traced import DIGITAL
        from simulation.energy.machine import Machine

        if self.name is None:
            components = components_of(table, scenario)
            base = Machine(CLAIMED, components.bits, (1024, 1024))
        elif scenario != "today":
            raise UsageError(
                "a machine has constants of its own, beside those of today", expected="--machine or --scenario",
                seen=f"--machine {self.name} --scenario {scenario}", hint=f"--machine {self.name}",
            )  # fmt: skip
        else:
            base, components = machine_named(self.name, table)
        machine = replace(
            base, array=base.array if self.array is None else _array(self.array), digital=DIGITAL, tile=self.tile,
            **self.usage,
        )  # fmt: skip
        if self.cache is Place.HELD and not machine.holds_cache:
            raise UsageError(
                "this machine holds no keys and values", device=self.name or "",
                expected="attention in light, on matrices that stay", seen="--cache held", hint="leave --cache out",
            )  # fmt: skip
        return machine, components


@dataclass(frozen=True)
class Work:
    """What is computed."""

    context: Annotated[
        int | None, typer.Option("--context", min=1, help="Tokens of a forward pass; the model's own, 4096 at most.")
    ] = None
    generate: Annotated[
        int | None, typer.Option("--generate", min=1, help="Decode so many tokens with a cache, after --prompt.")
    ] = None
    prompt: Annotated[int | None, typer.Option("--prompt", min=1, help="With --generate: tokens of a prompt; 512.")] = (
        None
    )
    batch: Annotated[int, typer.Option("--batch", min=1, help="Sequences that are decoded together.")] = 1

    head: Annotated[
        bool, typer.Option("--optical-head", help="The output head in light, too; the paper's is digital.")
    ] = False

    def conversation(self, cache: Place | None) -> Conversation | None:
        """None for a forward pass, which has no ``cache``."""
        from labctl.errors import UsageError
        from labctl.studies.serving import Conversation

        if self.generate is None:
            given = {"--batch": self.batch > 1, "--prompt": self.prompt is not None, "--cache": cache is not None}
            if any(given.values()):
                named = ", ".join(name for name, is_given in given.items() if is_given)
                raise UsageError(
                    "only a conversation has these", expected="--generate with them", seen=named, hint="--generate 256"
                )
            return None
        if self.context is not None:
            raise UsageError(
                "a forward pass or a conversation", expected="--context alone, or --prompt and --generate",
                seen="--context and --generate", hint=f"--generate {self.generate}",
            )  # fmt: skip
        return Conversation(self.prompt or 512, self.generate, self.batch)


def energy(
    lab: Lab,
    *,
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help=MODELS)] = None,
    shape: Annotated[
        str | None, typer.Option("--shape", help="A published shape instead, by name: gpt3-175b, llama-3.1-8b …")
    ] = None,
    work: Work,
    scenario: Annotated[
        str, typer.Option("--scenario", help="Of the components: today, scaled-optics, future.")
    ] = "today",
    light: LightOptions,
    machine: OpticalMachine,
    table: Annotated[Path | None, typer.Option("--table", help="Component table (TOML); the shipped one.")] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write a page with figures and every published shape.")
    ] = None,
    force: ForceOption = False,
) -> None:
    """Price a model in joules, in light and on digital processors.

    Operations are counted by tracing the model; constants come from a table in which each has a source and a range.
    With --generate, what a user pays: the prompt, then token by token with a cache of keys and values.
    """
    from labctl.archive.outputs import PAGE, require_output
    from labctl.errors import UsageError
    from labctl.studies.energy import claims_of, conversation_of, cost_of, elsewhere
    from labctl.studies.energy_document import document_of
    from labctl.studies.traced import operations_for

    if report is not None:
        require_output(report, PAGE, (table, model), force=force)
    priced, components = machine.priced(scenario, table)
    source, conversation = light.source(), work.conversation(machine.cache)
    if model is not None and shape is not None:
        raise UsageError("a model or a shape", seen=f"{model} and --shape {shape}", hint=f"--shape {shape}")
    traced = operations_for(model, shape, work.context)
    if conversation is not None:
        traced = traced.in_conversation(conversation)
    if work.head:
        traced = replace(traced, heads=())
    cost = cost_of(traced, priced, components, source)
    if conversation is not None:
        cost = conversation_of(traced, cost, priced, conversation)
    else:
        cost = replace(cost, claims=claims_of(shape or "", table, source))
    cost = replace(cost, elsewhere=tuple(elsewhere(traced, source, table, machine.usage)))
    document = document_of(cost)
    if report is not None:
        from labctl.report.energy import write_energy_page
        from labctl.studies.energy import gallery

        write_energy_page(report, cost, gallery(priced, components, source))
        document["report"] = str(report)
    if not lab.console.json_mode:
        show(lab, cost)
    next_words = f"next: open {report}" if report else "next: the same with --report energy.html, a page with figures"
    table_words = lab.console.laid_out(*against(cost))
    lab.console.result(document, table_words if lab.console.quiet else next_words)


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _array(text: str) -> tuple[int, int] | None:
    from labctl.errors import UsageError

    if text == "unlimited":
        return None
    parts = text.lower().split("x")
    if len(parts) == 2 and all(part.isascii() and part.isdecimal() and int(part) > 0 for part in parts):
        return int(parts[0]), int(parts[1])
    raise UsageError("not a size of an array", expected="ROWSxCOLUMNS, like 128x128, or unlimited", seen=repr(text))
