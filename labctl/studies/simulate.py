"""Perplexity of a model: as it is, with 8-bit operands, and on the calibrated bench."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from calibration.errors import ArtefactError
from calibration.machine.artefact import Calibration, load
from groundwork.errors import FileRefused
from groundwork.opening.regular import read_text
from labctl.errors import UsageError, storage_error
from labctl.summary import DigitalShare, LightLevel, Perplexity, Simulation
from simulation.conversion.optical import OpticalReport, optical_report, opticalize
from simulation.conversion.quantise import quantise_int8
from simulation.evaluation.perplexity import perplexity
from simulation.light.optics import PRESETS, optics
from simulation.models.language import Language
from simulation.models.text import pydoc_text


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
            raise UsageError("no such text, or not UTF-8", device=str(path), seen=str(error)) from error
        except OSError as error:
            raise storage_error(error, path, "reading a text") from error
    ids = encode(content)
    return TextTokens(name, ids[: limit + 1] if limit else ids)


def machine_of(name: str) -> Calibration | str:
    """A preset by its name, or the calibration in a file.

    Raises
    ------
    ArtefactError
        When there is no such file, or it is no calibration of a bench that labctl drives.
    """
    if name not in PRESETS and not Path(name).exists():
        foreign = f"labctl predict {name} FILE   ·   " if name.startswith("res-") else ""
        raise ArtefactError(
            "no such calibration file",
            device=name,
            action="simulating",
            expected=f"a file of labctl measure, *.calib.h5 or *.calib.safetensors; or {', '.join(PRESETS)}",
            seen="no file of this name",
            hint=f"{foreign}labctl calib list --json names the files",
        )
    return name if name in PRESETS else load(Path(name))


def light_levels(stated: Sequence[str]) -> tuple[float, ...]:
    """Photons per MAC as stated, ``"1,10"`` or one by one: ascending, each once.

    Raises
    ------
    UsageError
        For what is not a positive number.
    """
    parts = [part.strip() for entry in stated for part in entry.split(",")]
    try:
        levels = sorted({float(part) for part in parts})
    except ValueError:
        levels = [math.nan]
    if not all(0 < level < math.inf for level in levels):
        raise UsageError(
            "a light level is a positive number of photons per MAC",
            seen=", ".join(parts),
            hint="--photons-per-mac 1,10,100",
        )
    return tuple(levels)


def simulate(
    language: Language,
    calibration: Calibration | str,
    text: TextTokens,
    photons_per_mac: float | None,
    levels: Sequence[float],
    *,
    seed: int = 0,
    clip: float | None = None,
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
    clip
        Percentile of the magnitudes that full scale stands for, in 8 bits and in light; the machine's own if None.
    advance
        Called once for each model scored: three, and one per level.
    """
    context = language.context

    def score(model: object) -> float:
        value = perplexity(model, text.ids, context=context).ppl  # type: ignore[arg-type]
        advance(1)
        return value

    bench = optics(calibration)
    if clip is not None:
        bench = replace(bench, clip=(clip, clip))
    digital, int8 = score(language.model), score(quantise_int8(language.model, clip=bench.clip))
    in_light = opticalize(language.model, bench, seed=seed)
    optical, parts = score(in_light), optical_report(in_light)
    at = [
        LightLevel(
            photons_per_mac=n,
            perplexity=score(opticalize(language.model, bench, photons_per_mac=n, seed=seed)),
        )
        for n in levels
    ]
    return Simulation(
        model=language.name,
        text=text.name,
        tokens=len(text.ids) - 1,
        perplexity=Perplexity(digital=digital, int8=int8, optical=optical),
        photons_per_mac=photons_per_mac,
        levels=at,
        in_light=parts.share,
        digital=_digital(parts),
    )


def _digital(parts: OpticalReport) -> list[DigitalShare]:
    """Why products stayed digital, the largest share first."""
    macs: Counter[str] = Counter()
    for name, count in parts.digital_macs.items():
        macs[parts.digital[name]] += count
    total = parts.total.macs + sum(macs.values())
    return [DigitalShare(why=why, share=count / total) for why, count in macs.most_common()]


def in_light_words(found: Simulation) -> str:
    """How much of the model is in light, and what is not."""
    if found.in_light is None:
        return ""
    words = f"{100 * found.in_light:.4g} % of the multiply–accumulates in light"
    parts = [f"{part.why} ({100 * part.share:.2g} %)" for part in found.digital]
    return f"{words}; digital: {', '.join(parts)}" if parts else words
