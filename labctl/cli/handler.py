"""What every command shares: ``--json``, ``--quiet``, ``--bench``, and the way from an exception to an exit code."""

from __future__ import annotations

import inspect
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from groundwork.errors import CodedError
from labctl.cli.completing import run_names
from labctl.console import Console, tolerate_narrow_encodings
from labctl.errors import Aborted, LabError, ServiceStop, UsageError, as_coded, render
from labctl.hints import RUNS as USUAL_RUNS
from labctl.hints import given
from labctl.lab import Lab
from labctl.osal import PART, state_directory, stops

JsonOption = Annotated[
    bool, typer.Option("--json", help="Exactly one JSON document on stdout, everything else on stderr.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Only results, warnings and errors.")]
BenchOption = Annotated[
    str | None,
    typer.Option(
        "--bench", "-b", envvar="LABCTL_BENCH", metavar="STATION", help="Station file, or the name of a shipped one."
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one key of the station for this command; repeatable."),
]


def _folder(text: str | Path) -> Path:
    """The folder of the runs; an empty word, as a shell gives for a variable that is not set, is none."""
    if text == "":
        raise UsageError("no folder for the runs", expected="--runs FOLDER", seen="an empty word", hint="--runs runs")
    return Path(text)


RunsOption = Annotated[
    Path,
    typer.Option(
        "--runs", envvar="LABCTL_RUNS", metavar="PATH", parser=_folder, help="The folder that holds the runs."
    ),
]
WaitOption = Annotated[
    str | None,
    typer.Option("--wait", metavar="TIME", help="How long to wait for who has the bench: 90s, 10m; else not at all."),
]
BudgetOption = Annotated[
    str | None,
    typer.Option(
        "--budget", metavar="TIME", help="Begin nothing that does not fit into this time: 20m, 3h, 1h30m; go on later."
    ),
]
RUNS = Path(USUAL_RUNS)
RUN_NAMES = "The beginning or end of a run's id, its folder, a bench's name, or 'latest'."
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help=RUN_NAMES, autocompletion=run_names)]
LATEST = "latest"
ForceOption = Annotated[
    bool, typer.Option("--force", help="Replace a file that labctl did not write, too; never one that it reads.")
]
NewestRun = Annotated[
    str, typer.Argument(metavar="RUN", help=RUN_NAMES, show_default="the newest", autocompletion=run_names)
]
CALIBRATION = "A calibration: its file, the beginning of its id, a bench's name, the end of a run's id, or 'latest'"
TextOption = Annotated[
    Path | None, typer.Option("--text", help="What the model reads; held-out Python documentation if left out.")
]
MODELS = "A checkpoint, a folder, a GGUF or llama2.c file, a hub name; the shipped checkpoint if left out."
TOKENS = 4096
TokensOption = Annotated[int, typer.Option("--tokens", min=2, help="Tokens of the text to score.")]
SEED_MAX = 2**32 - 1
AT_ONCE_MAX = 256
"""Threads or processes: the system refuses thousands of them in the middle of the work, and ends the command."""
SeedOption = Annotated[int, typer.Option("--seed", min=0, max=SEED_MAX, help="Of everything random here.")]
LightOption = Annotated[
    list[str] | None,
    typer.Option(
        "--photons-per-mac",
        metavar="N[,N…]",
        help="Light levels, at the weight plane per MAC and pass: 1,10,100; repeatable.",
    ),
]

GOES_ON = frozenset({"adapt", "optical_transformers", "scaling", "train"})
"""Commands without a run that go on where they were stopped, when they are typed again; others do with --points."""

COMMON = {"json_": (JsonOption, False), "quiet": (QuietOption, False), "bench": (BenchOption, None)}
"""What every command has: parameter → (option, default)."""


def command(
    app: typer.Typer, name: str | None = None, *, hidden: bool = False
) -> Callable[[Callable[..., int | None]], Callable[..., None]]:
    """Register a function ``f(lab: Lab, …) -> int | None`` as a command.

    It gets the common options, its coded errors are shown as the operator needs them, and the int it returns (None: 0)
    is the exit code. Its docstring is the help.
    """

    def decorate(function: Callable[..., int | None]) -> Callable[..., None]:
        run = with_common_options(function)
        app.command(name, hidden=hidden)(run)
        return run

    return decorate


def with_common_options(function: Callable[..., int | None]) -> Callable[..., None]:
    """``f(lab: Lab, …) -> int | None`` as a function that typer can call: see `command`.

    A parameter whose type is a dataclass stands for a group of options, one for each field; the function gets them as
    one object.
    """
    hints = get_type_hints(function, include_extras=True)
    own: list[inspect.Parameter] = []
    groups: dict[str, Any] = {}
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        hint = hints[parameter.name]
        if is_dataclass(hint):
            groups[parameter.name] = hint
            own += _options_of(hint)
        else:
            own.append(parameter.replace(annotation=hint))
    common = [
        inspect.Parameter(option, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for option, (annotation, default) in COMMON.items()
    ]

    def run(*, json_: bool, quiet: bool, bench: str | None, **arguments: Any) -> None:
        console = Console(json_mode=json_, quiet=quiet, options=given(bench, arguments.get("runs")))
        lab = Lab(console, bench, made_up_for=_make_up)
        for name, group in groups.items():
            arguments[name] = group(**{field.name: arguments.pop(field.name) for field in fields(group)})
        try:
            if bench == "":
                raise UsageError(
                    "no bench", expected="--bench STATION", seen="an empty word", hint="--bench mock, or leave it out"
                )
            code = function(lab, **arguments) or 0
        except BaseException as error:
            if _is_typers_own(error) or isinstance(error, SystemExit):
                raise
            code = report_error(_with_way_on(error, lab, function.__name__, arguments), lab)
        raise typer.Exit(code)

    keyword_only = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    signature = inspect.Signature([*keyword_only, *common])
    run.__signature__ = signature  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in signature.parameters.values()}
    run.__name__, run.__doc__, run.__module__ = function.__name__, function.__doc__, function.__module__
    return run


def _options_of(group: Any) -> list[inspect.Parameter]:
    """One parameter for each field of a dataclass, whose annotations are options of typer."""
    hints = get_type_hints(group, include_extras=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    return [
        inspect.Parameter(
            field.name,
            keyword,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(group)
    ]


@cache
def _commands_of(app: typer.Typer) -> Callable[..., object]:
    """What typer makes of an application, once: a process that runs many commands would have it made for each."""
    return typer.main.get_command(app)


def run_app(app: typer.Typer, argv: list[str], ready: Callable[[], None] = lambda: None) -> int:
    """Parse ``argv``, run the command, and return the exit code; nothing escapes but `SystemExit`.

    ``ready`` is called when a stop signal does what it should.
    """
    tolerate_narrow_encodings(sys.stdout, sys.stderr)
    outside = Lab(Console(json_mode="--json" in argv))
    with stops.installed():
        try:
            stops.require_somebody()
            ready()
            code = _commands_of(app)(args=argv, prog_name="labctl", standalone_mode=False)
            return code if isinstance(code, int) else 0
        except Exception as error:
            if _is_typers_own(error):
                return _report_typers_own(error, outside)
            return report_error(error, outside)
        except KeyboardInterrupt as error:
            return report_error(error, outside)


def report_error(error: BaseException, lab: Lab) -> int:
    """Show an exception, keep its traceback in the log, and give the exit code.

    A coded error is rendered; Ctrl-C is 130, SIGTERM 143; anything else is a bug: exit code 1. With ``--json`` and no
    result so far, one summary with ``first_error`` goes to stdout. ``LABCTL_DEBUG=1`` shows the traceback.
    """
    coded = as_coded(error, lab.run.path if lab.run else Path())
    log = _keep_traceback(error, lab)
    if os.environ.get("LABCTL_DEBUG") or (log is None and not isinstance(coded, CodedError)):
        lab.console.warn("".join(traceback.format_exception(error)).rstrip())
    run_id = lab.run.run_id if lab.run else None
    exit_code = coded.exit_code if isinstance(coded, CodedError) else 1
    if isinstance(coded, Aborted | ServiceStop) and os.environ.get(PART):
        pass  # the command that this one is a part of says it, and what to type
    elif isinstance(coded, CodedError):
        coded.hint = lab.console.completed(coded.hint)
        lab.console.warn(render(coded, run_id, goes_on=lab.run is not None and can_go_on(lab.run.path)))
    else:
        lab.console.warn(_render_bug(error, log))
    if lab.console.json_mode and not lab.console.result_given:
        from labctl.summary import failure

        lab.console.result(failure(coded, exit_code, lab.summary))
    return exit_code


def can_go_on(folder: Path) -> bool:
    """Whether ``labctl run resume`` may go on with a run: it has a job, and has not measured all of it."""
    from labctl.archive.reader import read_run_json
    from labctl.verdicts import COMPLETE

    try:
        info = read_run_json(folder)
    except LabError:
        return False
    return bool(info.get("job")) and info.get("verdict") not in COMPLETE


def _with_way_on(error: BaseException, lab: Lab, name: str, arguments: Mapping[str, Any]) -> BaseException:
    """A stop that says whether the command can go on, where no run says so."""
    coded = as_coded(error)
    if lab.run is not None or not isinstance(coded, Aborted | ServiceStop) or coded.hint:
        return error
    keeps = name in GOES_ON or arguments.get("points") is not None
    coded.safe = "what it had computed up to its last evaluation or point is kept" if keeps else "no run had begun"
    coded.hint = "type the command again: it " + ("goes on from there" if keeps else "begins anew")
    return coded


def _make_up(lab: Lab, bench: str) -> None:
    """Do the ending of a night that was killed together with its supervisor."""
    from labctl.night.ending import make_up

    make_up(bench, lab.console.warn)


def _keep_traceback(error: BaseException, lab: Lab) -> Path | None:
    from labctl.archive.atomic import append_line
    from labctl.archive.ids import timestamp

    try:
        log = (lab.run.path if lab.run else state_directory()) / "log.jsonl"
        text = "".join(traceback.format_exception(error))
        if not lab.run:  # the folder of a run that was renamed or removed is not made anew
            log.parent.mkdir(parents=True, exist_ok=True)
        append_line(log, {"at": timestamp(), "level": "ERROR", "argv": sys.argv[1:], "traceback": text})
    except Exception:  # a reporter that fails hides what it was to report
        return None
    return log


def _render_bug(error: BaseException, log: Path | None) -> str:
    lines = [f"{LabError.code}  a bug in labctl: {type(error).__name__}: {error}"]
    lines += [f"  detail: {log} (traceback)"] if log else []
    return "\n".join([*lines, "  try:  the same command with LABCTL_DEBUG=1, and report what it prints"])


def _is_typers_own(error: BaseException) -> bool:
    """Exit, Abort and usage errors of typer (which carries its own copy of click since 0.29, and uses click before)."""
    return isinstance(error, typer.Exit | typer.Abort) or (hasattr(error, "format_message") and hasattr(error, "show"))


def _report_typers_own(error: Any, lab: Lab) -> int:
    if isinstance(error, typer.Abort):
        return report_error(KeyboardInterrupt(), lab)
    error.show()
    if lab.console.json_mode:
        from labctl.summary import failure

        lab.console.result(failure(UsageError(error.format_message(), hint="labctl --help"), UsageError.exit_code))
    return int(error.exit_code)
