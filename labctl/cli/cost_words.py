"""What ``labctl energy`` says on a terminal of 80 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labctl.lab import Lab

if TYPE_CHECKING:
    from labctl.studies.energy import Cost
    from labctl.studies.serving import Served

KINDS = {"linear": "parameters", "attention": "attention", "digital": "what stays digital"}
KINDER_SHOWN = 3
COLUMNS = "digital processor", "per MAC", "this is better by", "90 %"


def show(lab: Lab, cost: Cost) -> None:
    """Where the joules go, against what, and with what light, machine and assumptions."""
    from labctl.studies.energy import CROSSOVER_LIKE
    from labctl.studies.energy_rows import BILL, bill_rows
    from labctl.studies.light import DARK
    from labctl.studies.quantities import area, joules, prefixed

    bill, console = cost.bill, lab.console
    console.say(f"{cost.model}: width {cost.width}, {cost.parameters:.3g} parameters in its blocks")
    if cost.served is None:
        console.say(f"one forward pass of {bill.operations.tokens} tokens: {bill.operations.macs:.4g} MACs")
    else:
        _show_conversation(lab, cost.served)
        console.say(f"one step, at the middle of the answer: {bill.operations.macs:.4g} MACs")
    console.say(cost.built_of)
    for words in cost.scaled:
        console.say(f"  {words}")
    console.table(BILL, bill_rows(cost))
    kinds = (f"{KINDS[kind]} {joules_of / bill.total_j:.0%}" for kind, joules_of in bill.by(lambda r: r.kind).items())
    console.say(f"shares: {', '.join(kinds)}")
    low, high = (joules(end / bill.operations.macs) for end in cost.interval_j)
    each = joules(bill.per_mac_j)
    where = "without light" if cost.light is DARK else "in light"
    console.say(f"{where}  {joules(bill.per_token_j)} per token, {each} per MAC (90 %: {low} … {high})")
    if cost.served is not None:
        console.say("300 fJ/MAC stands for a chip that fetches matrices and cache at each step, too")
    _show_light(lab, cost)
    if bill.operations.uncounted:
        named = ", ".join(f"{layer} ({operation})" for layer, operation in bill.operations.uncounted)
        console.say(f"not counted, and so not priced: {named}")
    console.table(*against(cost))
    console.say(
        f"other models by width, each of {CROSSOVER_LIKE.blocks} blocks, a pass of {CROSSOVER_LIKE.context:,} tokens:"
    )
    console.say(f"  this machine costs less than 300 fJ/MAC {cost.paying_words}")
    limit = cost.limits
    console.say(f"the machine: {limit.macropixels:.3g} macropixels, {area(limit.area_m2)}; at its largest matrix")
    console.say(f"  {limit.converters:,} converters and {prefixed(limit.memory_bits_per_s / 8, 'B/s')}")
    console.say(f"  {prefixed(limit.seconds, 's')} per pass, one product after the other")
    _show_others(lab, cost)
    _show_claims(lab, cost)


def _show_light(lab: Lab, cost: Cost) -> None:
    """How many photons, where they come from, and what the paper's would do."""
    from labctl.studies.light import DARK
    from labctl.studies.quantities import times

    light, first = cost.light, cost.against[0]
    lab.console.say(f"light: {light.words}")
    for note in light.notes(cost.width, cost.bill.components, cost.bits):
        lab.console.say(f"  {note}")
    published = "" if light is DARK else f"; with the 1/d that was published {times(cost.claimed)}"
    lab.console.say(f"  against 300 fJ/MAC {times(first.advantage)}{published}")


def against(cost: Cost) -> tuple[tuple[str, ...], list[tuple[str, str, str, str]]]:
    """Headers and rows of the digital processors."""
    from labctl.studies.energy_rows import processor_rows

    return COLUMNS, processor_rows(cost)


def _show_conversation(lab: Lab, found: Served) -> None:
    from labctl.studies.quantities import joules, prefixed, times

    talk, console = found.conversation, lab.console
    batch = "" if talk.sequences == 1 else f", {talk.sequences} sequences together"
    console.say(f"a prompt of {talk.prompt} tokens, then {talk.generated} generated ones{batch}")
    rows = [
        ("the prompt", joules(found.prompt_j), joules(found.prompt_digital_j)),
        ("each generated token", joules(found.token_j), joules(found.token_digital_j)),
        ("together", joules(found.total_j), joules(found.digital_total_j)),
    ]
    console.table(("for each sequence", "in light", "300 fJ/MAC and memory"), rows)
    console.say(f"keys, values and states at the end: {prefixed(found.cache_bytes, 'B')}")
    console.say("a generated token by prompt and by sequences together; where keys and values are")
    console.table(
        ("prompt", "batch", "cache held", "reloaded", "digital", "best in light"),
        [
            (
                f"{a.prompt:,}", str(a.sequences), joules(a.held_j), joules(a.reloaded_j), joules(a.digital_j),
                times(a.digital_j / min(a.held_j, a.reloaded_j)),
            )
            for a in found.axes
        ],
    )  # fmt: skip
    console.say("a generated token by where cache and experts are; held matrices charged as said")
    console.table(
        ("cache", "experts", "schedule", "per token", "macropixels", "a step"),
        [
            (
                p.cache, p.experts if found.has_experts else "–", p.schedule, joules(p.optical_j),
                f"{p.macropixels:.2g}", prefixed(p.seconds, "s"),
            )
            for p in found.places
        ],
    )  # fmt: skip


def _show_others(lab: Lab, cost: Cost) -> None:
    from labctl.studies.energy_rows import AGAINST, array_rows, machine_rows
    from labctl.studies.quantities import joules

    lab.console.table(("array", "held matrices", *AGAINST), array_rows(cost))
    lab.console.table(("other machines", "bits", *AGAINST), machine_rows(cost))
    for each in cost.elsewhere:
        if each.claimed_j is not None and each.found_j is not None:
            lab.console.say(f"published of {each.name}: {joules(each.claimed_j)} per MAC")
            lab.console.say(f"  ({each.claimed}); here {joules(each.found_j)}, {each.verdict}")


def _show_claims(lab: Lab, cost: Cost) -> None:
    from labctl.studies.quantities import amount, times

    for claim in cost.claims:
        parts = ", ".join(f"{part} {share:.0%}" for part, share in claim.largest)
        lab.console.say(f"published: {claim.words}")
        lab.console.say(f"  here ({claim.scenario}): {times(claim.found)}, {claim.verdict}")
        lab.console.say(f"  most of it: {parts}")
        for constant, end, factor in claim.kinder[:KINDER_SHOWN]:
            lab.console.say(f"  with {constant.name} alone at {amount(end, constant.unit)}: {times(factor)}")
        lab.console.say(f"  with every constant at the kinder end of its range: {times(claim.together)}")
        lab.console.say(f"  with the light of this bill instead of the published 1/d: {times(claim.measured)}")
