"""The Transformer running on the machine model: models, light, training, scaling laws, energy.

Rooms, from the ground up: `light` (what a bench does to a product); `benches` (benches of every kind, behind one
interface) and `models`; `conversion` (puts light into a model); `evaluation` (perplexity, samples); `training`,
`scaling` and `energy`. A room imports only from those below.
"""

from typing import TYPE_CHECKING

from groundwork.lazy import lazy_front

if TYPE_CHECKING:
    from simulation.conversion.convert import digitally
    from simulation.conversion.optical import OpticalReport, optical_report, opticalize, reset_optical_report
    from simulation.conversion.quantise import quantise_int8
    from simulation.conversion.ranges import Ranges, observe
    from simulation.evaluation.perplexity import Perplexity, perplexity
    from simulation.evaluation.sampling import sample_products
    from simulation.light.accounting import Tally
    from simulation.light.optics import Optics, ideal, paper
    from simulation.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
    from simulation.models.gpt import GPT, GPTConfig
    from simulation.models.language import Language
    from simulation.models.loading import load_language
    from simulation.scaling.expansion import Expansion, expand
    from simulation.training.recipe import TrainingConfig
    from simulation.training.train import train
else:
    __getattr__, __dir__ = lazy_front(
        __name__,
        {
            "Checkpoint": "simulation.models.checkpoint",
            "Expansion": "simulation.scaling.expansion",
            "GPT": "simulation.models.gpt",
            "GPTConfig": "simulation.models.gpt",
            "Language": "simulation.models.language",
            "OpticalReport": "simulation.conversion.optical",
            "Optics": "simulation.light.optics",
            "Perplexity": "simulation.evaluation.perplexity",
            "Ranges": "simulation.conversion.ranges",
            "Tally": "simulation.light.accounting",
            "TrainingConfig": "simulation.training.recipe",
            "expand": "simulation.scaling.expansion",
            "digitally": "simulation.conversion.convert",
            "ideal": "simulation.light.optics",
            "load_checkpoint": "simulation.models.checkpoint",
            "load_language": "simulation.models.loading",
            "observe": "simulation.conversion.ranges",
            "optical_report": "simulation.conversion.optical",
            "opticalize": "simulation.conversion.optical",
            "paper": "simulation.light.optics",
            "perplexity": "simulation.evaluation.perplexity",
            "quantise_int8": "simulation.conversion.quantise",
            "reset_optical_report": "simulation.conversion.optical",
            "sample_products": "simulation.evaluation.sampling",
            "save_checkpoint": "simulation.models.checkpoint",
            "train": "simulation.training.train",
        },
    )

__all__ = [
    "GPT",
    "Checkpoint",
    "Expansion",
    "GPTConfig",
    "Language",
    "OpticalReport",
    "Optics",
    "Perplexity",
    "Ranges",
    "Tally",
    "TrainingConfig",
    "digitally",
    "expand",
    "ideal",
    "load_checkpoint",
    "load_language",
    "observe",
    "optical_report",
    "opticalize",
    "paper",
    "perplexity",
    "quantise_int8",
    "reset_optical_report",
    "sample_products",
    "save_checkpoint",
    "train",
]
