"""Commands on the Transformer: sample its products, run it on a calibration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labctl.cli.completing import calibration_names
from labctl.cli.handler import (
    AT_ONCE_MAX,
    CALIBRATION,
    MODELS,
    RUNS,
    TOKENS,
    ForceOption,
    LightOption,
    RunsOption,
    SeedOption,
    TextOption,
    TokensOption,
    command,
)
from labctl.cli.workers import WorkerOptions
from labctl.lab import Lab

if TYPE_CHECKING:
    from calibration.loading import Loaded
    from labctl.studies.simulate import Setting, TextTokens
    from labctl.summary import LightBudget, Simulation
    from simulation.benches.imported import Imported
    from simulation.light.optics import Optics
    from simulation.models.language import Language

COLUMNS = "run as", "photons per MAC", "perplexity", "±", "× digital"


def register(app: typer.Typer) -> None:
    """Add the commands to the top of the command line."""
    for function in (sample, simulate, presets):
        command(app, function.__name__)(function)


def sample(
    lab: Lab,
    model: Annotated[
        Path | None, typer.Argument(metavar="MODEL", help="A checkpoint; the shipped one if left out.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The workload file.")] = Path("products.h5"),
    layer: Annotated[
        list[str] | None,
        typer.Option(
            "--layer", help="A linear layer or attention product by name; repeatable. The paper's if left out."
        ),
    ] = None,
    per_layer: Annotated[int, typer.Option("--per-layer", min=1, help="Products from each layer.")] = 132,
    text: TextOption = None,
    seed: SeedOption = 0,
    force: ForceOption = False,
) -> None:
    """Sample a model's real products to a workload file."""
    from labctl.archive.outputs import WORKLOAD, require_output
    from labctl.resources import shipped_model
    from labctl.studies.sample import sample
    from labctl.studies.simulate import evaluation_text
    from simulation.models.checkpoint import load_checkpoint
    from simulation.models.loading import language_of

    path = model or shipped_model()
    require_output(output, WORKLOAD, (path, text), force=force)
    checkpoint = load_checkpoint(path)
    read = evaluation_text(language_of(path.stem, checkpoint).encode, text, TOKENS)
    workload = sample(checkpoint, path.stem, read, output, layers=layer, per_stratum=per_layer, seed=seed)
    rows = [(g.name, g.operation, f"{g.weight.shape[0]}×{g.weight.shape[1]}", len(g.inputs)) for g in workload.groups]
    if not lab.console.json_mode:
        lab.console.table(("matrix", "operation", "outputs×inputs", "products"), rows)
    document = {"path": str(output), "sha256": workload.sha256, "products": workload.products, "groups": rows}
    lab.console.result(document, f"{workload.products} products in {output}   ·   next: labctl measure {output}")


@dataclass(frozen=True)
class Reading:
    """What the model reads, and on what it is computed."""

    text: TextOption = None
    tokens: TokensOption = TOKENS
    context: Annotated[
        int | None, typer.Option("--context", min=2, help="Longest window in tokens; the model's own if left out.")
    ] = None
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads", min=1, max=AT_ONCE_MAX, help="Threads to compute on; all of the machine if left out."
        ),
    ] = None
    device: Annotated[
        str, typer.Option("--device", help="Where model and light are computed: cpu, cuda, cuda:1, mps.")
    ] = "cpu"


@dataclass(frozen=True)
class InLight:
    """How the model is put in light."""

    photons: LightOption = None
    clip: Annotated[
        float | None,
        typer.Option(
            "--clip",
            min=50.0,
            max=100.0,
            help="Percentile of weights and of attention's second operands that full scale stands for. If left out 99 "
            "and 98, as in the paper, with ideal 100. Models trained without clipping need 100.",
        ),
    ] = None
    encoding: Annotated[
        str | None,
        typer.Option(
            "--encoding",
            help="How signs become light: sign-split, offset, differential, coherent, partial-sums:BITS or "
            "tiled-scales:INPUTS. The machine's own if left out.",
        ),
    ] = None
    bits: Annotated[
        str | None,
        typer.Option(
            "--bits",
            metavar="N[,N,N]",
            help="Of inputs, weights and outputs in light, 2 to 16: 4, or 4,4,8; the machine's own if left out.",
        ),
    ] = None
    seed: SeedOption = 0
    budget: Annotated[
        float | None,
        typer.Option(
            "--budget",
            metavar="N",
            help="Share out light of N photons per MAC and pass in the mean, by what each product needs, and compare "
            "with as much light shared equally.",
        ),
    ] = None


def simulate(
    lab: Lab,
    *,
    calibration: Annotated[
        str,
        typer.Argument(
            metavar="CALIB",
            help=f"{CALIBRATION}, of your bench or of an import; or a preset (labctl presets).",
            autocompletion=calibration_names,
        ),
    ],
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help=MODELS)] = None,
    model_option: Annotated[str | None, typer.Option("--model", help="The same as MODEL.")] = None,
    reading: Reading,
    light: InLight,
    report: Annotated[Path | None, typer.Option("--report", help="Write a page with the figure.")] = None,
    workers: WorkerOptions,
    points: Annotated[
        Path | None,
        typer.Option(
            "--points", help="Folder in which what is computed is kept, batch by batch: the same command goes on."
        ),
    ] = None,
    force: ForceOption = False,
    runs: RunsOption = RUNS,
) -> None:
    """Perplexity: digital, 8 bit, and in light at each level.

    The machine is a calibration of your own bench or of an import, or a preset."""
    from labctl.archive.outputs import PAGE, require_output
    from labctl.resources import shipped_model
    from labctl.studies.simulate import light_levels
    from simulation.benches.opening import described
    from simulation.light.tensors.devices import device_of

    levels = light_levels(light.photons or ())
    device_of(reading.device)
    asked = _one_of(model, model_option)
    named = shipped_model() if asked is None else asked
    if report is not None:
        require_output(report, PAGE, (calibration, named, reading.text), force=force)
    bench = _bench(calibration, asked, runs)
    found = _simulated(lab, bench, named, levels, reading, light, workers, points)
    _show(lab, found, described(bench), reading.device, report)


def _simulated(
    lab: Lab,
    bench: Loaded | str,
    named: str | Path,
    levels: tuple[float, ...],
    reading: Reading,
    light: InLight,
    workers: WorkerOptions,
    points: Path | None,
) -> Simulation:
    """What a model makes of its text on a bench, and with a budget of light where one is asked for."""
    from labctl.studies.budget import shareable
    from labctl.studies.simulate import (
        Setting,
        bits_of,
        evaluation_text,
        on_threads,
        parts_of,
        simulate,
        window_of,
    )
    from labctl.studies.simulate import Workers as Where
    from simulation.models.loading import load_language
    from simulation.scaling.parts import PartStore

    setting = Setting(light.clip, light.encoding, None if light.bits is None else bits_of(light.bits))
    on = None if light.budget is None else shareable(setting.bench(bench), light.budget, light.encoding)
    with on_threads(reading.threads):
        language = load_language(named)
        read = evaluation_text(language.encode, reading.text, reading.tokens)
        where = Where(workers.compute(), None if points is None else PartStore(points))
        parts = parts_of(bench, levels, read, window_of(language, reading.context))
        with lab.console.progress("simulating", parts) as bar:
            found = simulate(
                language, bench, read, None, levels, seed=light.seed, setting=setting, context=reading.context,
                device=reading.device, workers=where, advance=bar.advance,
            )  # fmt: skip
        return found if on is None else _with_budget(lab, found, on, language, read, setting, reading, light)


def _show(lab: Lab, found: Simulation, machine: Optics | Imported, device: str, report: Path | None) -> None:
    """Tables and remarks on the terminal, the page, and the document."""
    from labctl.studies.simulate_words import words_of

    own = "the bench's own light" if machine.electrons else "no shot noise"
    rows = _rows(found, own)
    if not lab.console.json_mode:
        lab.console.say(f"{found.model} on {found.tokens:,} tokens of {found.text}, {machine.name}")
        lab.console.table(COLUMNS, rows)
        for words in words_of(found):
            lab.console.say(words)
        if found.budget is not None:
            _show_budget(lab, found.budget)
        for words in found.remarks:
            lab.console.warn(f"note: {words}")
    if report is not None:
        from labctl.report.simulation import write_simulation_page

        write_simulation_page(report, machine.name, own, found, COLUMNS, rows)
    document = {"calibration": machine.name, "device": device, "simulation": found}
    shown = [lab.console.laid_out(COLUMNS, rows)] if lab.console.quiet else []
    lines = [*shown, *([] if report is None else [str(report)])]
    lab.console.result(document, "\n".join(lines) if lines else None)


def presets(lab: Lab) -> None:
    """Presets, published machines and encodings for `simulate`."""
    from simulation.benches.families import FAMILIES
    from simulation.benches.machines import MACHINES
    from simulation.benches.partial_sums import PartialSums
    from simulation.benches.tiled import TiledScales
    from simulation.light.optics import PRESETS

    ways = {each.name: each.words for each in (*FAMILIES.values(), PartialSums(), TiledScales())}
    if not lab.console.json_mode:
        lab.console.table(("encoding", "what is shown and read"), list(ways.items()))
        rows = [(name, machine.family, machine.words) for name, machine in MACHINES.items()]
        plain = [(name, "sign-split", " ".join((make.__doc__ or "").split())) for name, make in PRESETS.items()]
        lab.console.table(("preset", "encoding", "what it is"), plain + rows)
        facts = [
            (name, fact.name, "yes" if fact.verified else "no", f"{fact.value} ({fact.source})")
            for name, machine in MACHINES.items()
            for fact in machine.facts
        ]
        lab.console.table(("machine", "what", "read there", "value, and where it is printed"), facts)
        lab.console.table(("machine", "left open"), [(name, each.open) for name, each in MACHINES.items()])
    document = {
        "encodings": ways,
        "presets": list(PRESETS),
        "machines": [
            {
                "name": name,
                "encoding": machine.family,
                "words": machine.words,
                "open": machine.open,
                "facts": [
                    {"name": fact.name, "value": fact.value, "source": fact.source, "verified": fact.verified}
                    for fact in machine.facts
                ],
            }
            for name, machine in MACHINES.items()
        ],
    }
    lab.console.result(document, f"labctl simulate {next(iter(MACHINES))} --photons-per-mac 10")


def _with_budget(
    lab: Lab,
    found: Simulation,
    bench: Optics,
    language: Language,
    text: TextTokens,
    setting: Setting,
    reading: Reading,
    light: InLight,
) -> Simulation:
    from labctl.studies.budget import STEPS, share_out

    assert light.budget is not None
    with lab.console.progress("sharing out light", STEPS) as bar:
        shared = share_out(
            language,
            bench,
            text,
            light.budget,
            setting=setting,
            seed=light.seed,
            context=reading.context,
            advance=bar.advance,
        )
    return found.model_copy(update={"budget": shared})


def _show_budget(lab: Lab, found: LightBudget) -> None:
    from labctl.studies.simulate_words import BUDGET_COLUMNS, PRODUCT_COLUMNS, budget_rows, budget_words, product_rows

    lab.console.table(PRODUCT_COLUMNS, product_rows(found))
    lab.console.table(BUDGET_COLUMNS, budget_rows(found))
    lab.console.say(budget_words(found))


def _one_of(model: str | None, option: str | None) -> str | None:
    from labctl.errors import UsageError

    if model is not None and option is not None:
        raise UsageError("two models", expected="MODEL or --model", seen=f"{model} and {option}")
    return option if model is None else model


def _bench(calibration: str, model: str | None, runs: Path) -> Loaded | str:
    """The bench; a model in its place, as when the two are swapped, is told so."""
    from groundwork.errors import CodedError
    from labctl.errors import UsageError
    from labctl.studies.simulate import any_machine_of

    try:
        return any_machine_of(calibration, runs)
    except CodedError as error:
        path = Path(calibration)
        is_file = path.suffix in (".safetensors", ".gguf", ".bin") and ".calib." not in path.name and path.is_file()
        if not is_file and not (path / "config.json").is_file():
            raise
        raise UsageError(
            "the bench comes first, then the model",
            device=calibration,
            expected="CALIB MODEL",
            seen="a model where the bench stands" + ("" if model is None else f", and {model} after it"),
            hint=f"labctl simulate {'ideal' if model is None else model} {calibration}",
        ) from error


def _rows(found: Simulation, own: str) -> list[tuple[str, ...]]:
    """The table: digital, 8 bit, the bench's ``own`` light, and every light level that was asked for."""
    from labctl.summary import number

    p = found.perplexity
    results = [
        ("digital", "", p.digital, p.digital_stderr),
        ("8 bit", "", p.int8, p.int8_stderr),
        ("optical", own, p.optical, p.optical_stderr),
        *([("optical", "drawn bench", found.drawn, None)] if found.drawn is not None else []),
        *(("optical", f"{level.photons_per_mac:g}", level.perplexity, level.stderr) for level in found.levels),
    ]
    return [
        (
            name,
            light,
            number(value, _form(value)),
            "" if error is None else number(error, ".2g"),
            "" if value is None or not p.digital else f"{value / p.digital:.4g}",
        )
        for name, light, value, error in results
    ]


def _form(perplexity: float | None) -> str:
    return ".2f" if perplexity is None or perplexity < 1e4 else ".2g"
