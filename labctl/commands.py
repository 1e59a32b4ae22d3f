"""Commands, typed in Python: each runs in a process of its own, as at a terminal, under its supervisor."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from labctl.archive.index import open_run
from labctl.archive.reader import RunReader
from labctl.errors import CommandFailed, UsageError
from labctl.verdicts import COMPLETE

_SHOWN = 300
"""Characters of an answer that is no document, as an error shows them."""
_LINES = 6
"""Of what a command said at last that a stop shows: what was stopped, what is safe, how it goes on."""

AnyPath = str | os.PathLike[str]
Overrides = Sequence[str] | Mapping[str, object]


def command(*words: object, echo: bool = True) -> dict[str, Any]:
    """Run ``labctl`` with these words, and return the one document that it prints with ``--json``.

    A bench that is out of spec is a finding and no error: look at ``document["verdict"]``. An interrupt stops the
    command as Ctrl-C does at a terminal, and is raised again when the bench is safe.

    Parameters
    ----------
    words
        As one would type them, each a word of its own; paths and numbers will do.
    echo
        Whether what the command says while it works is written to `sys.stderr`, one plain line at a time.

    Returns
    -------
    The document, from its JSON.

    Raises
    ------
    CommandFailed
        When the command ended with an error; its ``document`` is what the command printed.
    UsageError
        A word that is neither text, a path nor a number.

    Examples
    --------
    >>> import labctl
    >>> labctl.command("run", "list", "--runs", "runs")["runs"][0]["status"]
    'ok'
    """
    typed = [_word(word) for word in words]
    argv = [sys.executable, "-m", "labctl", *typed, "--json", *(() if echo else ("--quiet",))]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        said: list[str] = []
        relay = threading.Thread(target=_relay, args=(process.stderr, said, echo), name="labctl")
        relay.start()
        try:
            assert process.stdout is not None
            printed = process.stdout.read()
            process.wait()
        except BaseException as stopped:
            _stop(process)
            relay.join()
            stopped.add_note("".join(said[-_LINES:]).rstrip())
            raise
        relay.join()
    return _document(typed, process.returncode, printed, "".join(said))


def demo(
    bench: AnyPath | None = None,
    *,
    model: AnyPath | None = None,
    text: AnyPath | None = None,
    per_layer: int | None = None,
    seed: int | None = None,
    overrides: Overrides = (),
    runs: AnyPath = "runs",
    wait: str | None = None,
    echo: bool = True,
) -> RunReader:
    """Go the whole way, as ``labctl demo`` does: from products of a Transformer to the whole model on the bench.

    One to three minutes on two cores with what is shipped.

    Parameters
    ----------
    bench
        A station file, or the name of a shipped one; the mock bench if None.
    model, text
        A checkpoint, and what it reads; the shipped ones if None.
    per_layer, seed
        Products from each of the four layers; of the sample and of the simulated noise. As the command has them if
        None.
    overrides
        ``["layout.rows=64"]`` and the like, as for `load_station`, or ``{"layout.rows": 64}``.
    runs
        The archive.
    wait
        How long to wait for who has the bench: ``"90s"``, ``"10m"``; not at all if None.
    echo
        As for `command`.

    Returns
    -------
    The run, complete; ``run.summary()`` says whether the bench is in spec, and what was found.

    Raises
    ------
    CommandFailed
        When the run did not come to its end.

    Examples
    --------
    >>> import labctl
    >>> run = labctl.demo("small.toml", echo=False)  # doctest: +SKIP
    >>> labctl.load_calibration(run.summary().calibration.path).machine.channel.shape  # doctest: +SKIP
    (32, 32)
    """
    asked = {"--model": model, "--text": text, "--per-layer": per_layer, "--seed": seed}
    options = [word for name, value in asked.items() for word in _option(name, value)]
    return _run("demo", *options, bench=bench, overrides=overrides, runs=runs, wait=wait, echo=echo)


def measure(
    workload: AnyPath,
    bench: AnyPath | None = None,
    *,
    overrides: Overrides = (),
    runs: AnyPath = "runs",
    wait: str | None = None,
    echo: bool = True,
) -> RunReader:
    """Calibrate a bench, show it a workload, validate and export, as ``labctl measure`` does.

    Parameters
    ----------
    workload
        The products, from ``labctl sample MODEL -o products.h5``.
    bench, overrides, runs, wait, echo
        As for `demo`.

    Returns
    -------
    As for `demo`.

    Raises
    ------
    CommandFailed
        When the run did not come to its end.

    Examples
    --------
    >>> import labctl
    >>> labctl.measure("products.h5", "small.toml", echo=False).status  # doctest: +SKIP
    'ok'
    """
    return _run("measure", workload, bench=bench, overrides=overrides, runs=runs, wait=wait, echo=echo)


def calibrate(
    *nodes: str,
    bench: AnyPath | None = None,
    overrides: Overrides = (),
    runs: AnyPath = "runs",
    wait: str | None = None,
    echo: bool = True,
) -> RunReader:
    """Calibrate a bench, as ``labctl calibrate`` does.

    Parameters
    ----------
    nodes
        What to measure, with what it rests on; everything if none is named. ``"maintain"`` as the first measures only
        what is due.
    bench, overrides, runs, wait, echo
        As for `demo`.

    Returns
    -------
    As for `demo`.

    Raises
    ------
    CommandFailed
        When the run did not come to its end.

    Examples
    --------
    >>> import labctl
    >>> run = labctl.calibrate("dark", bench="small.toml", echo=False)
    >>> [node.name for node in run.summary().nodes]
    ['dark', 'report']
    """
    return _run("calibrate", *nodes, bench=bench, overrides=overrides, runs=runs, wait=wait, echo=echo)


def _run(
    *words: object, bench: AnyPath | None, overrides: Overrides, runs: AnyPath, wait: str | None, echo: bool
) -> RunReader:
    """A command that measures, and its run."""
    options = [*_option("--bench", bench), *_option("--wait", wait), *_sets(overrides), "--runs", Path(runs)]
    document = command(*words, *options, echo=echo)
    return open_run(document["run_id"], Path(runs))


def _option(name: str, value: object) -> tuple[object, ...]:
    return () if value is None else (name, value)


def _word(word: object) -> str:
    """One word of a command: a list or a table would be typed as Python prints it."""
    if isinstance(word, os.PathLike | bytes):
        return os.fsdecode(word)
    if not isinstance(word, str | int | float):
        raise UsageError(
            "a word of a command is text, a path or a number",
            expected='each word of its own: labctl.command("run", "list")',
            seen=f"{type(word).__name__}: {word!r}"[:80],
            safe="nothing was begun",
            hint="command(*words) where they are in a list",
        )
    return str(word)


def _sets(overrides: Sequence[str] | Mapping[str, object]) -> list[object]:
    """``--set`` for each of them, from ``"key=value"``, several of them, or a table of keys and values."""
    if isinstance(overrides, str):
        overrides = (overrides,)
    elif isinstance(overrides, Mapping):
        overrides = [f"{key}={json.dumps(value)}" for key, value in overrides.items()]
    return [word for override in overrides for word in ("--set", override)]


def _relay(pipe: IO[bytes], said: list[str], echo: bool) -> None:
    """What the command says, as it says it: a pipe that nobody empties would stop it."""
    for line in pipe:
        said.append(line.decode("utf-8", "replace"))
        if echo:
            print(said[-1], end="", file=sys.stderr, flush=True)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Stop a command as Ctrl-C would, and wait: it makes the bench safe first, however many more signals come."""
    process.send_signal(signal.SIGINT if os.name == "posix" else signal.SIGTERM)
    while True:
        with contextlib.suppress(KeyboardInterrupt):
            process.wait()
            return


def _document(words: Sequence[str], exit_code: int, printed: bytes, said: str) -> dict[str, Any]:
    """What was printed, or the error that it tells of."""
    name = "labctl " + " ".join(words[:2])
    try:
        document = json.loads(printed)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise CommandFailed(
            f"{name} printed no document",
            status=exit_code or 1,
            expected="one JSON document",
            seen=(printed.decode("utf-8", "replace").strip() or said.strip() or f"exit code {exit_code}")[-_SHOWN:],
            hint=f"type it at a terminal: {name}",
        )
    if exit_code == 0 or document.get("verdict") in COMPLETE:
        return document
    error = document.get("first_error") or {}
    facts = {key: str(error.get(key) or "") for key in ("device", "action", "expected", "seen", "safe", "hint")}
    what = f"{name}: {error.get('code', '')} {error.get('message', f'exit code {exit_code}')}"
    raise CommandFailed(what, document, exit_code, **facts)
