"""``labctl train``: a model, a family of widths, quantisation-aware, or with the bench in the loop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labctl.cli.handler import RUNS, RunsOption, SeedOption, SetOption, command
from labctl.cli.train_arms import ArmOptions, train_all
from labctl.cli.train_options import ScheduleOptions, ShapeOptions, teller, widths_of
from labctl.lab import Lab

if TYPE_CHECKING:
    from simulation.models.checkpoint import Checkpoint
    from simulation.training.forward import Forward
    from simulation.training.recipe import TrainingConfig


def register(app: typer.Typer) -> None:
    """Add the command to the top of the command line."""
    command(app)(train)


@dataclass(frozen=True)
class ProductOptions:
    """What computes the products while the model trains; at most one of three."""

    qat: Annotated[
        bool, typer.Option("--qat", help="Quantisation-aware: 256 levels for inputs, weights and outputs.")
    ] = False
    bits: Annotated[
        str | None,
        typer.Option("--bits", metavar="N[,N,N]", help="With --qat: of inputs, weights and outputs; 8 if left out."),
    ] = None
    running: Annotated[
        bool, typer.Option("--running-ranges", help="With --qat: running extremes instead of one calibration batch.")
    ] = False
    calibration: Annotated[
        str | None,
        typer.Option(
            "--calibration",
            metavar="CALIB",
            help="Noise-aware: light goes forward, the model's gradient back; a preset (labctl presets), or a "
            "calibration by its file, the beginning of its id, a bench's name or 'latest'.",
        ),
    ] = None
    photons: Annotated[
        float | None,
        typer.Option("--photons-per-mac", help="Of --calibration: at the weight plane, per MAC and pass."),
    ] = None
    on_bench: Annotated[
        str | None, typer.Option("--on-bench", metavar="LAYER", help="Measure this layer's products on the bench.")
    ] = None

    @property
    def asked(self) -> list[str]:
        """The options of the three that were given."""
        said = {"--qat": self.qat, "--calibration": self.calibration, "--on-bench": self.on_bench}
        return [name for name, value in said.items() if value]


def train(
    lab: Lab,
    *,
    output: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="The checkpoint, *.safetensors, with *.json beside it; a folder for several widths."
        ),
    ],
    text: Annotated[
        list[Path] | None, typer.Option("--text", help="A text to train on beside Python's documentation; repeatable.")
    ] = None,
    shape: ShapeOptions,
    arms: ArmOptions,
    schedule: ScheduleOptions,
    start: Annotated[
        Path | None, typer.Option("--start", help="Go on from this checkpoint; its shape and tokenizer stay.")
    ] = None,
    products: ProductOptions,
    seed: SeedOption = 0,
    set_: SetOption = None,
    runs: RunsOption = RUNS,
) -> None:
    """Train GPT-2-like models from text. A command that was stopped goes on where it was.

    ReLU6 and pre-LayerNorm as in the paper; seed, texts and loss curve are written beside each checkpoint.
    """
    from labctl.archive.outputs import CHECKPOINT, CHECKPOINT_RECORD, require_output, require_output_folder
    from labctl.studies.train import state_path, targets, train_to
    from simulation.models.checkpoint import load_checkpoint
    from simulation.models.text import load_texts

    _require_use(products, arms, seed)
    _check(products, start, output, arms)
    if arms.arms is not None:
        require_output_folder(output)
        train_all(lab, output, arms, shape, schedule, text or [])
        return
    begun = None if start is None else load_checkpoint(start)
    configs = _recipes(shape, schedule, begun, seed)
    files = targets(output, [config.width for config in configs])
    for file in files.values():
        require_output(file, CHECKPOINT, [start, *(text or [])])
        require_output(file.with_suffix(".json"), CHECKPOINT_RECORD, text or [])
    texts = load_texts(text or [])
    records = {}
    for config in configs:
        file = files[config.width]
        if state_path(file).exists():
            lab.console.say(f"going on with the unfinished training of {file}")
        with (
            _forward(lab, products, set_, runs) as forward,
            lab.console.progress(f"training d = {config.width}", config.steps) as bar,
        ):
            told = teller(lab, bar)
            records[file] = train_to(file, config, texts, start=begun, forward=forward, progress=told)
    _show(lab, records)


def _require_use(products: ProductOptions, arms: ArmOptions, seed: int) -> None:
    """Refuse options that would do nothing, since they belong to another that was not given."""
    from labctl.cli.unused import refuse_unused
    from labctl.errors import UsageError

    of_arms = {"--replicas": arms.replicas, "--tokens-per-parameter": arms.tokens_per_parameter}
    usual = {"--replicas": ArmOptions.replicas, "--tokens-per-parameter": ArmOptions.tokens_per_parameter}
    without: dict[str, dict[str, object]] = {
        "--qat": {} if products.qat else {"--bits": products.bits, "--running-ranges": products.running},
        "--calibration": {} if products.calibration is not None else {"--photons-per-mac": products.photons},
        "--arms": {} if arms.arms is not None else {k: value for k, value in of_arms.items() if value != usual[k]},
    }
    for owner, options in without.items():
        refuse_unused(options, owner, f"give {owner}, or leave it out")
    if arms.arms is not None and seed:
        what = "each replica of an arm has a seed of its own, from 0 on"
        raise UsageError(what, seen=f"--seed {seed}", hint="--replicas 3")


def _check(products: ProductOptions, start: Path | None, output: Path, arms: ArmOptions) -> None:
    """Refuse what cannot be one training."""
    from labctl.errors import UsageError

    if arms.arms is not None and (products.asked or start is not None):
        said = [*products.asked, *(["--start"] if start is not None else [])]
        raise UsageError(
            "arms are trained from nothing, the quantised one from its arm in float",
            seen=", ".join(said),
            hint=f"labctl train {output} --arms all",
        )
    if products.asked and start is None:
        raise UsageError(
            "quantisation and noise come after a training in float",
            expected="--start CHECKPOINT",
            seen="no checkpoint to start from",
            hint=f"labctl train float.safetensors, then labctl train {output} --start float.safetensors",
        )
    if len(products.asked) > 1:
        what = f"{' and '.join(products.asked)} are separate trainings"
        raise UsageError(what, hint="one first, then --start its result")


def _recipes(
    shape: ShapeOptions, schedule: ScheduleOptions, begun: Checkpoint | None, seed: int
) -> Sequence[TrainingConfig]:
    """One recipe for each width; the one of the checkpoint that is gone on from, if there is any."""
    from labctl.errors import UsageError
    from labctl.studies.train import FAMILY, recipe_from
    from simulation.training.recipe import TrainingConfig

    common: dict[str, Any] = {"batch": schedule.batch, "seed": seed, "evaluate_every": schedule.evaluate_every}
    if schedule.steps is not None:
        common["steps"] = schedule.steps
    if schedule.bfloat16:
        common["precision"] = "bfloat16"
    if begun is not None:
        if shape.width or shape.family or shape.given:
            raise UsageError("the shape comes from the checkpoint", seen="--start with a shape", hint="leave it out")
        return [recipe_from(begun, **common)]
    if shape.family and shape.width:
        raise UsageError(
            "two answers to which widths",
            expected="--family or --width",
            seen=f"--family with --width {shape.width}",
            hint=f"a family of your own: --width {shape.width},…; the usual one of 32 to 256: --family alone",
        )
    widths = FAMILY if shape.family else widths_of(shape.width or "128")
    common |= shape.given
    return [TrainingConfig(width=width, **common) for width in widths]


def _show(lab: Lab, records: Mapping[Path, Mapping[str, Any]]) -> None:
    models = [
        {"path": str(file), "width": record["config"]["width"], **{k: record[k] for k in ("heldout", "seconds")}}
        for file, record in records.items()
    ]
    lines = [f"{m['path']}: held-out perplexity {m['heldout']['ppl']:.2f}" for m in models]
    lab.console.result({"models": models}, "\n".join(lines) + f"   ·   next: labctl sample {models[-1]['path']}")


@contextmanager
def _forward(lab: Lab, products: ProductOptions, overrides: list[str] | None, runs: Path) -> Iterator[Forward | None]:
    """What computes the products; a bench stays open as long as the training."""
    if products.qat:
        from labctl.studies.simulate import bits_of
        from simulation.training.qat import QuantisedForward

        yield QuantisedForward("running" if products.running else "batch", bits_of(products.bits or "8"))
    elif products.calibration is not None:
        from labctl.studies.simulate import any_machine_of
        from simulation.training.physical import CalibratedForward

        yield CalibratedForward(any_machine_of(products.calibration, runs), products.photons)
    elif products.on_bench is not None:
        from labctl.studies.bench_training import bench_forward

        with bench_forward(lab, lab.station(overrides), runs, products.on_bench) as forward:
            yield forward
    else:
        yield None
