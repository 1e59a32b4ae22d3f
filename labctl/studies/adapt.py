"""Adapt a model to a bench, resumably: a folder with the model appears whole at the end, and says how far it got."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from groundwork.notebook import Card, Carded
from labctl.archive.atomic import atomic_write_json, storage
from labctl.errors import UsageError
from labctl.studies.alone import alone
from labctl.summary import with_error
from simulation.benches.imported import Imported
from simulation.benches.naming import named
from simulation.benches.opening import Source, described
from simulation.evaluation.perplexity import summarise, window_nats
from simulation.light.optics import Optics
from simulation.models.language import Language
from simulation.models.loading import load_language
from simulation.models.saving import save_language
from simulation.models.text import load_texts, pydoc_text
from simulation.training.adapt import AdaptConfig, Adapted, Twin, distil
from simulation.training.train import Progress

HELD_OUT = 0.1
"""Last part of each text that is never learned from."""
RECORD = "adaptation.json"
USUAL = AdaptConfig()


@dataclass(frozen=True)
class Corpus:
    """Text in a model's tokens.

    Attributes
    ----------
    names
        Of the texts.
    learned, heldout
        (N,) int64: what is learned from, and what is only scored.
    """

    names: tuple[str, ...]
    learned: Tensor
    heldout: Tensor


@dataclass(frozen=True)
class Score:
    """How well held-out text is predicted.

    Attributes
    ----------
    run_as
        What computed it.
    ppl, stderr
        Perplexity per token, and its standard error from the scatter between windows; None for a single one.
    times_digital, times_stderr
        Over that of the digital model before, and its standard error: windows are compared one by one, so that it is
        smaller than those of the two.
    """

    run_as: str
    ppl: float
    stderr: float | None
    times_digital: float
    times_stderr: float | None


@dataclass(frozen=True, repr=False)
class Adaptation(Carded):
    """What was done, and what it gave.

    Attributes
    ----------
    model, machine
        Names.
    photons_per_mac
        Of the light in the loop; None: the bench's own.
    saved
        What `labctl simulate` takes: a folder as Hugging Face saves it, or a checkpoint.
    texts, tokens_learned, tokens_scored
        What was read; the last tenth of each text, or the held-out topics, are only scored.
    scores
        Digital before, in light before, in light after, digital after.
    curve
        ``[step, loss, held-out nats/token in light]``.
    config
        See `simulation.training.adapt.AdaptConfig`.
    moved, parameters
        Numbers that moved, of all.
    seconds
        Of the adaptation, all sittings together.
    """

    model: str
    machine: str
    photons_per_mac: float | None
    saved: str
    texts: tuple[str, ...]
    tokens_learned: int
    tokens_scored: int
    scores: tuple[Score, ...]
    curve: list[list[float]]
    config: dict[str, Any]
    moved: int
    parameters: int
    seconds: float

    def card(self) -> Card:
        """What a notebook shows of it."""
        light = "the bench's own light" if self.photons_per_mac is None else f"{self.photons_per_mac:g} photons per MAC"
        return Card(
            "adaptation",
            f"{self.model} to {self.machine}, {light}",
            {
                **{
                    one.run_as: f"perplexity {with_error(one.ppl, one.stderr)}, {one.times_digital:.3g} × digital"
                    for one in self.scores
                },
                "moved": f"{self.moved} of {self.parameters} numbers, {self.tokens_learned} tokens learned",
                "saved": self.saved,
            },
        )


def adapt(
    model: str | Path,
    calibration: Source | Path,
    output: str | Path,
    *,
    texts: Sequence[str | Path] = (),
    config: AdaptConfig = USUAL,
    score_tokens: int = 4096,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Adaptation:
    """Adapt a model to a bench, or go on where an earlier call was stopped, and save it in a new folder.

    Parameters
    ----------
    model
        What `load_language` takes.
    calibration
        What `opticalize` takes.
    output
        A folder that does not exist, or is empty: it appears when all is done.
    texts
        Files to learn from, all but the last tenth of each, which is scored; Python's documentation if there are none.
    config
        How; windows are never longer than the model's context.
    score_tokens
        Held-out tokens that the models are compared on, before and after.
    progress
        Called after every step.

    Returns
    -------
    What was done and what it gave. ``.saved`` is what `load_language` takes.

    Raises
    ------
    UsageError
        When the folder holds something already.
    ArtefactError, BadOperands, OutOfDomain
        When the model or the calibration cannot be opened; there is too little text; the loss is no longer finite.

    Examples
    --------
    >>> import labctl
    >>> from labctl.resources import shipped_family
    >>> small = next(path for path in shipped_family() if path.stem.endswith("d32"))
    >>> how = labctl.AdaptConfig(photons_per_mac=3.0, tokens=600, context=32)
    >>> found = labctl.adapt(small, "paper", "adapted", config=how, score_tokens=200)
    >>> [score.run_as for score in found.scores]
    ['digital', 'in light, before', 'in light, after', 'digital, after']
    >>> language = labctl.load_language(found.saved)
    """
    target = Path(output)
    require_free(target)
    bench, language = described(named(calibration)), load_language(model)
    corpus = read_corpus(language.encode, [Path(text) for text in texts])
    config = replace(config, context=min(config.context, language.context))
    return adapt_to(target, model, language, bench, corpus, config, score_tokens=score_tokens, progress=progress)


def read_corpus(encode: Callable[[str], list[int]], paths: Sequence[Path]) -> Corpus:
    """Texts of which the last tenth is held out; without any, the language reference and its held-out topics.

    Raises
    ------
    BadOperands
        When a text cannot be read.
    """
    if not paths:
        parts = [(pydoc_text("train").content, pydoc_text("heldout").content)]
        names: tuple[str, ...] = ("pydoc_data.topics",)
    else:
        texts = load_texts(paths)
        parts, names = [_split(text.content) for text in texts], tuple(text.name for text in texts)
    learned, heldout = ([token for part in parts for token in encode(part[i])] for i in (0, 1))
    return Corpus(names, torch.tensor(learned), torch.tensor(heldout))


def state_path(output: Path) -> Path:
    """Where the unfinished adaptation is kept."""
    return output.with_name(f"{output.name}.training")


def require_free(output: Path) -> None:
    """Refuse to adapt into a folder that holds something.

    Raises
    ------
    UsageError
    """
    if output.is_dir() and not any(output.iterdir()):
        return
    if output.exists():
        raise UsageError(
            "there is something already",
            device=str(output),
            expected="a new folder",
            seen=f"{RECORD} of an adaptation" if (output / RECORD).exists() else "other files",
            hint=f"-o {output}-2, or move {output} away",
        )


def adapt_to(
    output: Path,
    source: str | Path,
    language: Language,
    bench: Optics | Imported,
    corpus: Corpus,
    config: AdaptConfig,
    *,
    score_tokens: int,
    progress: Callable[[Progress], None] = lambda _: None,
    finish: Callable[[Path, Adaptation], None] = lambda folder, found: None,
) -> Adaptation:
    """Adapt, or go on with what an earlier command left, and write the folder.

    Parameters
    ----------
    output
        A folder that does not exist, or is empty: it appears when all is done.
    source
        What the language was loaded from.
    score_tokens
        Held-out tokens that the models are compared on, before and after.
    finish
        Puts what else belongs there into the folder, before it gets its name.

    Raises
    ------
    StorageError
        Disk full or not writable.
    UsageError
        When the folder holds something already.
    RunInUse
        When another process adapts into it.
    BadOperands, OutOfDomain, ArtefactError
        See `simulation.training.adapt.distil`.
    """
    with storage(output, "adapting a model"):
        output.parent.mkdir(parents=True, exist_ok=True)
        with alone(output, "adapting a model"):
            require_free(output)
            state = state_path(output)
            done = distil(language.model, bench, corpus.learned, corpus.heldout, config, state=state, progress=progress)
            part = output.with_name(f".{output.name}.part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            saved = save_language(part, done.model, source, _origin(language, bench, corpus, config, done))
            found = _found(saved, output, language, bench, corpus, config, score_tokens, done)
            atomic_write_json(part / RECORD, asdict(found))
            finish(part, found)
            if output.is_dir():
                output.rmdir()
            part.replace(output)
            state.unlink(missing_ok=True)
    return found


def _found(
    saved: Path,
    output: Path,
    language: Language,
    bench: Optics | Imported,
    corpus: Corpus,
    config: AdaptConfig,
    score_tokens: int,
    done: Adapted,
) -> Adaptation:
    """What was done, and the scores of the model as it was saved."""
    after = load_language(saved).model
    return Adaptation(
        language.name,
        bench.name,
        config.photons_per_mac,
        str(output / saved.relative_to(saved if saved.is_dir() else saved.parent)),
        corpus.names,
        config.steps * config.batch * config.context,
        min(score_tokens, len(corpus.heldout) - 1),
        _scores(language.model, after, done.twin, corpus.heldout[: score_tokens + 1], config),
        done.curve,
        asdict(config),
        *done.moved,
        round(done.seconds, 1),
    )


def _split(text: str) -> tuple[str, str]:
    """The first nine tenths and the last, cut where a line, or else a word, begins."""
    at = round((1 - HELD_OUT) * len(text))
    cut = next((found for mark in ("\n", " ") if (found := text.find(mark, at)) != -1), at)
    return text[:cut], text[cut:]


def _origin(
    language: Language, bench: Optics | Imported, corpus: Corpus, config: AdaptConfig, done: Adapted
) -> dict[str, Any]:
    """The record inside one of our own checkpoints."""
    return {
        "adapted_from": language.name,
        "bench": bench.name,
        "texts": list(corpus.names),
        "config": asdict(config),
        "curve": done.curve,
        "seconds": round(done.seconds, 1),
    }


def _scores(before: nn.Module, after: nn.Module, twin: Twin, ids: Tensor, config: AdaptConfig) -> tuple[Score, ...]:
    """The four of `Adaptation`; the model after is the one that was saved."""
    models = {
        "digital": before,
        "in light, before": twin.of(before),
        "in light, after": twin.of(after),
        "digital, after": after,
    }
    nats = {name: window_nats(model, ids, context=config.context) for name, model in models.items()}
    _, scored = nats["digital"]
    base = nats["digital"][0]
    return tuple(_score(name, found, base, scored) for name, (found, _) in nats.items())


def _score(name: str, nats: Tensor, base: Tensor, scored: Tensor) -> Score:
    """From (n,) summed nats of each window, those of the digital model, and the tokens in each."""
    found, more = summarise(nats, scored), summarise(nats - base, scored)
    several = len(nats) > 1
    return Score(
        name,
        found.ppl,
        found.ppl * found.stderr if several else None,
        more.ppl,
        more.ppl * more.stderr if several else None,
    )
