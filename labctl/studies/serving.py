"""What a user who talks to a model pays: reading the prompt, then each generated token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from labctl.errors import UsageError
from simulation.energy.constants import Components
from simulation.energy.decoders import Decoder
from simulation.energy.machine import SCHEDULES, Machine, Schedule
from simulation.energy.operations import Operations
from simulation.energy.pricing import DIGITAL_BITS, STATE_BITS, limits, price_digital, price_optical

PROMPTS = 128, 2048, 16384, 131072
BATCHES = 1, 8, 64
PLACES = "held", "reloaded"


@dataclass(frozen=True)
class Conversation:
    """Sequences that are decoded together.

    Attributes
    ----------
    prompt, generated
        Tokens of each.
    sequences
        How many.
    """

    prompt: int
    generated: int
    sequences: int = 1

    @property
    def middle(self) -> int:
        """Length of a sequence at the middle one of its generated tokens.

        What a step costs is linear in the length, but for whole tiles, so that this one costs what all do on average.
        """
        return self.prompt + (self.generated + 1) // 2

    def of(self, decoder: Decoder) -> Operations:
        """One step, at the middle.

        Raises
        ------
        UsageError
            When the model was not made for so many tokens.
        """
        total = self.prompt + self.generated
        if total > decoder.context:
            raise UsageError(
                "longer than the model's context", device=decoder.name, expected=f"at most {decoder.context} tokens",
                seen=f"{self.prompt} + {self.generated}",
                hint=_shorter(decoder.context, self.generated),
            )  # fmt: skip
        return decoder.step(self.sequences, self.middle)


def _shorter(context: int, generated: int) -> str:
    return f"--prompt {context - generated}" if generated < context else f"--prompt 1 --generate {context - 1}"


@dataclass(frozen=True)
class Axis:
    """A generated token after a prompt, among sequences that are decoded together [J]."""

    prompt: int
    sequences: int
    held_j: float
    reloaded_j: float
    digital_j: float


@dataclass(frozen=True)
class Place:
    """A generated token with cache and experts in different places.

    Attributes
    ----------
    cache, experts, schedule
        As of `simulation.energy.machine.Machine`.
    optical_j
        [J]
    macropixels, seconds
        That the machine needs, and one step takes.
    """

    cache: str
    experts: str
    schedule: Schedule
    optical_j: float
    macropixels: float
    seconds: float


@dataclass(frozen=True)
class Served:
    """What a conversation costs.

    Attributes
    ----------
    conversation
        `Conversation`
    prompt_j, prompt_digital_j
        Of all tokens of one prompt, in light and at the reference [J].
    token_j, token_digital_j
        Of one generated token [J].
    cache_bytes
        Keys and values of one sequence at the end, and its recurrent states.
    axes, places
        `Axis`, `Place`
    """

    conversation: Conversation
    prompt_j: float
    prompt_digital_j: float
    token_j: float
    token_digital_j: float
    cache_bytes: int
    axes: tuple[Axis, ...]
    places: tuple[Place, ...]

    @property
    def total_j(self) -> float:
        """Of one sequence, prompt and all generated tokens [J]."""
        return self.prompt_j + self.conversation.generated * self.token_j

    @property
    def digital_total_j(self) -> float:
        """The same at the reference [J]."""
        return self.prompt_digital_j + self.conversation.generated * self.token_digital_j

    @property
    def has_experts(self) -> bool:
        """Whether there is something to be asked or idle."""
        return len({place.experts for place in self.places}) > 1


def served(
    decoder: Decoder, conversation: Conversation, machine: Machine, components: Components, reference: str
) -> Served:
    """Price a conversation; ``reference`` is the digital chip beside and against the optics."""
    step, sequences = conversation.of(decoder), conversation.sequences
    reading = decoder.prompt(sequences, conversation.prompt)

    def each(operations: Operations, priced: Machine | None) -> float:
        if priced is None:
            return price_digital(operations, components, reference).total_j / sequences
        return price_optical(operations, priced, components, reference).total_j / sequences

    return Served(
        conversation,
        each(reading, machine),
        each(reading, None),
        each(step, machine),
        each(step, None),
        DIGITAL_BITS // 8 * decoder.kept(conversation.prompt + conversation.generated)
        + STATE_BITS // 8 * decoder.states,
        tuple(_axes(decoder, conversation, machine, components, reference)),
        tuple(_places(step, machine, components, reference)),
    )


def _axes(
    decoder: Decoder, conversation: Conversation, machine: Machine, components: Components, reference: str
) -> Iterator[Axis]:
    prompts = sorted({conversation.prompt, *PROMPTS})
    batches = sorted({conversation.sequences, *BATCHES})
    for prompt, sequences in product(prompts, batches):
        other = replace(conversation, prompt=prompt, sequences=sequences)
        if prompt + other.generated > decoder.context:
            continue
        step = other.of(decoder)
        held, reloaded = (
            price_optical(step, replace(machine, cache=place), components, reference).total_j / sequences
            for place in PLACES
        )
        digital = price_digital(step, components, reference).total_j / sequences
        yield Axis(prompt, sequences, held, reloaded, digital)


def _places(step: Operations, machine: Machine, components: Components, reference: str) -> Iterator[Place]:
    has_experts = any(p.stage for p in step.products)
    for cache, experts, schedule in product(PLACES, PLACES if has_experts else PLACES[:1], SCHEDULES):
        other = replace(machine, cache=cache, experts=experts, schedule=schedule)
        bill = price_optical(step, other, components, reference)
        need = limits(step, other, components)
        yield Place(cache, experts, schedule, bill.per_token_j, need.macropixels, need.seconds)
