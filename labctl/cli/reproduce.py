"""``labctl reproduce``: an article's figures computed again, each with a verdict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labctl.cli.handler import AT_ONCE_MAX, command
from labctl.lab import Lab

if TYPE_CHECKING:
    from labctl.studies.reproduce.article import Reproduction

app = typer.Typer(help="Compute an article's figures again, each with a verdict.", no_args_is_help=True)


@command(app, "optical-transformers")
def optical_transformers(
    lab: Lab,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of what is computed, and of the page.")] = Path(
        "reproduction"
    ),
    full: Annotated[
        bool, typer.Option("--full", help="All light levels, seeds and the article's bench; trains with few bits.")
    ] = False,
    jobs: Annotated[
        int, typer.Option("--jobs", min=1, max=AT_ONCE_MAX, help="Processes of one thread each for the sweeps.")
    ] = 2,
) -> None:
    """The figures of arXiv 2302.10360 beside ours.

    For each claim of Optical Transformers: our number, the published one, and agree, differ or cannot say, with the
    reason. What was computed before is not computed again: a command that was stopped goes on where it was.
    """
    from labctl.archive.atomic import atomic_write_json
    from labctl.archive.outputs import PAGE, require_output, require_output_folder
    from labctl.archive.outputs import document as labctl_document
    from labctl.console import plain
    from labctl.durations import in_words
    from labctl.report.reproduction import write_reproduction_page
    from labctl.resources import shipped_family
    from labctl.studies.reproduce.article import reproduce
    from labctl.studies.reproduce.form import FULL, QUICK, expected_s
    from labctl.studies.sweep import in_this_process, on_processes

    require_output_folder(output)
    document_path, page = output / "reproduction.json", output / "report.html"
    require_output(document_path, labctl_document("labctl.reproduction/"))
    require_output(page, PAGE)
    form, models = FULL if full else QUICK, shipped_family()
    _say(
        lab,
        f"{form.name} form: about {in_words(expected_s(form, models, jobs))} from nothing, with this machine as busy "
        f"as it is now; what is in {output} already is kept",
    )
    found = reproduce(lab, form, models, output, in_this_process if jobs == 1 else on_processes(jobs))
    document = found.document()
    atomic_write_json(document_path, plain(document))
    write_reproduction_page(page, found)
    if not lab.console.json_mode:
        _show(lab, found)
    lab.console.result(document, f"{page}")


def _show(lab: Lab, found: Reproduction) -> None:
    for section in found.sections:
        _say(lab, "")
        _say(lab, section.title)
        for each in section.judged:
            _say(lab, f"  {each.verdict}: {each.claim}")
            _say(lab, f"    ours: {each.ours}; {each.why}")
    counted = found.counted()
    _say(lab, "")
    _say(
        lab,
        f"{counted['agree']} agree, {counted['differ']} differ, of {counted['cannot say']} nobody can say; "
        f"{found.took}",
    )


def _say(lab: Lab, words: str) -> None:
    from labctl.console import wrapped

    lab.console.say(wrapped(words, min(lab.console.width, 80), "      "))
