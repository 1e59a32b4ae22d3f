"""The model of the demo: what it reads, the products that it lends the bench, and how it runs on what came out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibration.machine.artefact import Calibration
from labctl.resources import shipped_model
from labctl.studies.sample import sample
from labctl.studies.simulate import TextTokens, evaluation_text, parts_of, simulate
from labctl.summary import Simulation
from simulation.models.checkpoint import Checkpoint, load_checkpoint
from simulation.models.language import Language
from simulation.models.loading import language_of

TOKENS = 4096
LEVELS = (100.0, 1000.0, 10000.0)


@dataclass(frozen=True)
class DemoModel:
    """A model and the text that it reads.

    Attributes
    ----------
    name
        Of the checkpoint.
    checkpoint, language
        The same model, for sampling and for simulating.
    tokens
        What it reads.
    """

    name: str
    checkpoint: Checkpoint
    language: Language
    tokens: TextTokens

    @classmethod
    def of(cls, job: Mapping[str, Any]) -> DemoModel:
        """The model and text that a job names: the shipped one, and held-out documentation, where it names none."""
        path = Path(job["model"]) if job.get("model") else shipped_model()
        checkpoint = load_checkpoint(path)
        language = language_of(path.stem, checkpoint)
        text = Path(job["text"]) if job.get("text") else None
        return cls(path.stem, checkpoint, language, evaluation_text(language.encode, text, TOKENS))

    def parts(self, calibration: Calibration) -> int:
        """Of how many parts `simulate` tells its ``advance``."""
        return parts_of(calibration, LEVELS, self.tokens, self.language.context)

    def sample(self, path: Path, per_stratum: int, seed: int) -> None:
        """Write a workload of products of every layer, ``per_stratum`` of each."""
        sample(self.checkpoint, self.name, self.tokens, path, layers=None, per_stratum=per_stratum, seed=seed)

    def simulate(
        self,
        calibration: Calibration,
        photons_per_mac: float,
        seed: int,
        advance: Callable[..., None],
    ) -> Simulation:
        """Perplexity with a calibration, at the light that its bench had and at others."""
        return simulate(self.language, calibration, self.tokens, photons_per_mac, LEVELS, seed=seed, advance=advance)
