"""Perplexity of a model: as it is, with 8-bit operands, and on the calibrated bench."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

import torch
from torch import nn

from calibration.loading import Loaded, load_calibration
from groundwork.errors import FileRefused
from groundwork.nearest import did_you_mean
from groundwork.opening.regular import read_text
from labctl.engine.calibrations import calibration_file
from labctl.errors import UsageError, storage_error
from labctl.hints import RUNS
from labctl.studies.chains import Machine, score_all
from labctl.studies.resolution import bits_stated
from labctl.studies.sweep import Compute, in_this_process
from labctl.summary import DigitalShare, LightLevel, LightUsed, Perplexity, Simulation
from simulation.benches.imported import OTHER_LIGHT, Imported, ImportedBench
from simulation.benches.machines import MACHINES
from simulation.benches.multiplier import Multiplier
from simulation.benches.opening import default_encoding, described, open_bench
from simulation.benches.setting import set_otherwise, tile_of
from simulation.conversion.optical import BATCH
from simulation.conversion.ranges import Ranges, observe
from simulation.conversion.report import OpticalReport
from simulation.evaluation.perplexity import Perplexity as Scored
from simulation.light.accounting import Tally
from simulation.light.coarse import MOST, Bits
from simulation.light.optics import LEAST_PHOTONS, MOST_PHOTONS, PRESETS, Optics
from simulation.light.tensors.devices import device_of
from simulation.models.language import Language
from simulation.models.text import pydoc_text
from simulation.scaling.parts import DRAWN, OPTICAL, PartStore, Subject, batches_of
from simulation.scaling.points import DIGITAL, INT8

UNKNOWN = 0.02
"""Share of a text in words that a tokenizer does not know, from which on it is said."""
ROUNDING = 1e-5
"""Of a perplexity."""


@dataclass(frozen=True)
class TextTokens:
    """A text in a model's tokens, with the name it goes by in results."""

    name: str
    ids: list[int]


def evaluation_text(encode: Callable[[str], list[int]], path: Path | None, limit: int | None) -> TextTokens:
    """The held-out part of Python's own language reference, or the text of a file.

    Raises
    ------
    UsageError
        When there is no such file, or it is not UTF-8 text.
    """
    if path is None:
        name, content = "pydoc_data.topics (held out)", pydoc_text("heldout").content
    else:
        name = path.name
        try:
            content = read_text(path)
        except (FileNotFoundError, IsADirectoryError, FileRefused) as error:
            raise UsageError(
                "the text cannot be read",
                device=str(path),
                expected="a file of UTF-8 text",
                seen="no file of this name" if isinstance(error, FileNotFoundError) else str(error),
                hint="leave out --text: the model then reads Python's documentation",
            ) from error
        except OSError as error:
            raise storage_error(error, path, "reading a text") from error
    ids = encode(content)
    return TextTokens(name, ids[: limit + 1] if limit else ids)


def any_machine_of(name: str, runs: Path = Path(RUNS)) -> Loaded | str:
    """A preset or a published machine by its name, or a calibration by any name that means one: our own, or a fit's.

    Raises
    ------
    UsageError, ArtefactError
        When there is none of this name, or the file is no calibration.
    """
    if name in PRESETS or name in MACHINES:
        return name
    return load_calibration(_file(name, runs, (*PRESETS, *MACHINES)))


def _file(name: str, runs: Path, presets: Collection[str]) -> Path:
    try:
        return calibration_file(runs, name)
    except UsageError as error:
        error.expected = f"a preset ({', '.join(presets)}), or {error.expected}"
        error.hint = did_you_mean(name, presets, error.hint)
        raise


def light_levels(stated: Sequence[str]) -> tuple[float, ...]:
    """Photons per MAC as stated, ``"1,10"`` or one by one: ascending, each once.

    Raises
    ------
    UsageError
        For what is not a positive number, or no light that there is.
    """
    parts = [part.strip() for entry in stated for part in entry.split(",")]
    try:
        levels = sorted({float(part) for part in parts})
    except ValueError:
        levels = [math.nan]
    if not all(LEAST_PHOTONS <= level <= MOST_PHOTONS for level in levels):
        raise UsageError(
            "a light level is a positive number of photons per MAC",
            expected=f"{LEAST_PHOTONS:g} … {MOST_PHOTONS:g}",
            seen=", ".join(parts),
            hint="--photons-per-mac 100",
        )
    return tuple(levels)


def bits_of(stated: str) -> Bits:
    """Bits of inputs, weights and outputs as stated, ``"4"`` for all of them or ``"4,4,8"``.

    Raises
    ------
    UsageError
        For what is neither one number nor three, of 2 to 16 bits.
    """
    return Bits(*bits_stated(stated, 2, MOST))


def machines(calibration: Loaded | str, levels: Sequence[float]) -> list[Machine]:
    """On what the text is scored: digital, 8 bit, in light, of an import on a drawn bench, and at each level."""
    drawn = [DRAWN] if isinstance(described(calibration), Imported) else []
    own: list[Machine] = [(machine, None) for machine in (DIGITAL, INT8, OPTICAL, *drawn)]
    return own + [(OPTICAL, level) for level in levels]


def parts_of(calibration: Loaded | str, levels: Sequence[float], text: TextTokens, context: int) -> int:
    """Of how many parts `simulate` tells its ``advance``: each batch of windows on each machine.

    Raises
    ------
    BadOperands
        If the text has fewer than two tokens.
    """
    return len(machines(calibration, levels)) * batches_of(text.ids, context)


@dataclass(frozen=True)
class Setting:
    """How a model is put in light; what is None is the machine's own.

    Attributes
    ----------
    clip
        Percentile of the magnitudes that full scale stands for, in 8 bits and in light.
    encoding
        How signs become light (`simulation.benches.families`).
    bits
        Of inputs, weights and outputs in light. Outputs are rounded between the extremes that the model has digitally
        on the first windows of the text; without ``bits`` they are not rounded.
    """

    clip: float | None = None
    encoding: str | None = None
    bits: Bits | None = None

    def bench(self, calibration: Loaded | str) -> Optics | Imported:
        """The machine, so set.

        Raises
        ------
        OutOfDomain
            When there is no such preset, or an import is to have other bits.
        """
        return set_otherwise(calibration, clip=self.clip, encoding=self.encoding, bits=self.bits)

    def ranges(self, model: nn.Module, ids: Sequence[int], context: int) -> dict[str, Ranges]:
        """Of the converters after the light, for `opticalize`. Inputs are clipped by `clip` and by nothing else."""
        if self.bits is None:
            return {}
        few = torch.tensor([list(ids[:context])])
        found = observe(
            model, [few.to(next(model.parameters(), few).device)], tile=tile_of(self.encoding), inputs=False
        )
        return {name: replace(each, steps=self.bits.steps) for name, each in found.items()}


OWN = Setting()
"""Everything as the machine has it."""


@dataclass(frozen=True)
class Workers:
    """Where parts of a simulation are computed, see `labctl.studies.sweep`, and kept; nowhere if ``store`` is None."""

    compute: Compute = in_this_process
    store: PartStore | None = None


HERE = Workers()
"""In this process, and kept nowhere."""


def simulate(
    language: Language,
    calibration: Loaded | str,
    text: TextTokens,
    photons_per_mac: float | None,
    levels: Sequence[float],
    *,
    seed: int = 0,
    setting: Setting = OWN,
    context: int | None = None,
    device: str = "cpu",
    workers: Workers = HERE,
    advance: Callable[[int], None] = lambda n: None,
) -> Simulation:
    """Score the text digitally, with 8-bit operands, on the bench as calibrated, and at other light levels.

    Parameters
    ----------
    calibration
        Or the name of a preset.
    photons_per_mac
        What the bench's own light amounts to, for the record.
    levels
        Photons per MAC to simulate beside it.
    setting
        `Setting`
    context
        Longest window [tokens]; the model's own if None.
    device
        Where the model, and its light, are computed: torch's name for it.
    workers
        Where the parts are computed, and kept: the numbers are the same.
    advance
        Told of each part, see `parts_of`.

    Raises
    ------
    OutOfDomain
        When the bench cannot show signs in this way, or cannot have one of the light levels.
    """
    window = window_of(language, context)
    bench, encoding = setting.bench(calibration), setting.encoding
    language.model.to(device_of(device))
    ranges = setting.ranges(language.model, text.ids, window)
    # a light that the bench cannot have is refused before anything is scored
    own, *_ = [open_bench(bench, level, "exact", encoding=encoding) for level in (None, *levels)]
    subject = Subject(language.model, text.ids, window, bench, encoding, ranges, seed, device)
    found = score_all(subject, machines(calibration, levels), workers.compute, workers.store, advance)
    digital, int8, optical = (found[machine, None].perplexity for machine in (DIGITAL, INT8, OPTICAL))
    drawn = found[DRAWN, None].perplexity.ppl if (DRAWN, None) in found else None
    parts = found[OPTICAL, None].report
    assert parts is not None
    at = [(level, found[OPTICAL, level].perplexity) for level in levels]
    return Simulation(
        model=language.name,
        text=text.name,
        tokens=len(text.ids) - 1,
        perplexity=Perplexity(
            digital=digital.ppl,
            int8=int8.ppl,
            optical=optical.ppl,
            digital_stderr=_stderr(digital),
            int8_stderr=_stderr(int8),
            optical_stderr=_stderr(optical),
        ),
        photons_per_mac=photons_per_mac,
        levels=[LightLevel(photons_per_mac=light, perplexity=each.ppl, stderr=_stderr(each)) for light, each in at],
        in_light=parts.share,
        digital=_digital(parts),
        uncounted=[f"{name}: {parts.digital[name]}" for name in parts.uncounted],
        by_elements=sum(parts.by_elements.values()) / parts.macs if parts.macs else None,
        batch=parts.batch,
        remarks=list(_remarks(language, digital, parts, text.ids)),
        seed=seed,
        clip=list(bench.clip),
        context=window,
        version=metadata.version("labctl"),
        encoding=encoding or default_encoding(bench),
        bits=None if setting.bits is None else [setting.bits.inputs, setting.bits.weights, setting.bits.outputs],
        not_measured=_not_measured(own, parts.total, levels),
        drawn=drawn,
        light_used=_light_used(parts.total),
    )


def window_of(language: Language, context: int | None) -> int:
    """The longest window: as stated, or the model's own.

    Raises
    ------
    UsageError
        When the model cannot read so far.
    """
    if context is not None and context > language.context:
        raise UsageError(
            "the model does not read so far",
            device=language.name,
            expected=f"at most {language.context} tokens",
            seen=str(context),
            hint=f"--context {language.context}",
        )
    return context or language.context


@contextmanager
def on_threads(count: int | None) -> Iterator[None]:
    """While open, torch computes on so many threads; on as many as before if None."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _stderr(found: Scored) -> float:
    """Of the perplexity, from that of its logarithm."""
    return found.ppl * found.stderr


def _remarks(language: Language, digital: Scored, parts: OpticalReport, ids: Sequence[int]) -> Iterator[str]:
    if ids and (unknown := ids.count(language.unknown) / len(ids)) > UNKNOWN:
        yield (
            f"{100 * unknown:.0f} % of the text are words that the tokenizer does not know, all one token: the "
            "perplexity is of what it knows, and of how often it knows nothing"
        )
    if digital.ppl > language.vocabulary * (1 + ROUNDING):
        yield (
            f"digitally the model does worse than guessing among its {language.vocabulary:,} tokens: its weights or "
            "its tokenizer may be of another model, or the text of another kind"
        )
    if parts.batch == BATCH:
        yield BATCH


def _not_measured(own: Multiplier, total: Tally, levels: Sequence[float]) -> list[str]:
    """Of an imported bench: what is taken and nobody measured, in its own light and in other levels."""
    if not isinstance(own, ImportedBench):
        return []
    return [*own.not_measured(total), *([OTHER_LIGHT] if levels else [])]


def _light_used(total: Tally) -> LightUsed | None:
    """What all products took, for each multiply–accumulate."""
    if not total.macs:
        return None
    return LightUsed(
        photons_per_mac=total.photons_per_mac,
        electrons_per_mac=total.electrons_per_mac,
        frames=total.frames / total.macs,
        input_conversions=total.input_conversions / total.macs,
        output_conversions=total.output_conversions / total.macs,
        scales=total.scales / total.macs,
    )


def _digital(parts: OpticalReport) -> list[DigitalShare]:
    """Why products stayed digital, the largest share first."""
    macs: Counter[str] = Counter()
    for name, count in parts.digital_macs.items():
        macs[parts.digital[name]] += count
    total = parts.total.macs + sum(macs.values())
    return [DigitalShare(why=why, share=count / total) for why, count in macs.most_common()]
