"""``labctl calib``: calibrations in the store."""

from __future__ import annotations

from typing import Annotated

import typer

from labctl.cli.completing import calibration_names
from labctl.cli.handler import CALIBRATION, RUNS, RunsOption, command
from labctl.lab import Lab

app = typer.Typer(help="The calibrations in the store: list, compare.", no_args_is_help=True)


@command(app, "list")
def list_(lab: Lab, runs: RunsOption = RUNS) -> None:
    """List the calibrations, newest first, and which are applied."""
    from labctl.archive.calibrations import CalibrationStore

    store = CalibrationStore(runs)
    rows = store.rows()
    applied = {decision.id: bench for bench in store.benches() if (decision := store.applied(bench))}
    if not lab.console.json_mode:
        if rows:
            columns = [
                (
                    r.id,
                    "applied" if r.id in applied else "",
                    r.acquired[:16],
                    r.valid_until[:16],
                    r.schema.removeprefix("labctl."),
                    r.bench,
                )
                for r in rows
            ]
            headers = ("calibration", "", "acquired (UTC)", "valid until", "kind", "bench")
            lab.console.table(headers, columns)
        else:
            lab.console.say(f"no calibrations in {store.folder}   ·   make one: labctl measure WORKLOAD")
    lab.console.result({"calibrations": rows, "applied": {bench: i for i, bench in applied.items()}})


@command(app)
def diff(
    lab: Lab,
    a: Annotated[str, typer.Argument(metavar="A", help=CALIBRATION + ".", autocompletion=calibration_names)],
    b: Annotated[str, typer.Argument(metavar="B", help=CALIBRATION + ".", autocompletion=calibration_names)],
    runs: RunsOption = RUNS,
) -> None:
    """Compare two calibrations, family by family.

    Every difference has its standard error; each family is tested for any change at all.
    """
    from labctl.engine.calibrations import about, difference, open_calibration

    first, second = open_calibration(runs, a), open_calibration(runs, b)
    found, left = difference(first, second)
    if not lab.console.json_mode:
        lab.console.say(f"A  {first.id}  {about(first)}\nB  {second.id}  {about(second)}\n")
        rows = [
            (f.name, f"{f.mean_a:.5g}", f"{f.mean_b:.5g}", f"{f.difference:+.2g}", f"{f.stderr:.1g}", f"{f.z:+.1f}",
             f"{f.largest_z:+.1f}", f.unit)
            for f in found
        ]  # fmt: skip
        benches = [str(c.provenance.get("bench", "")) for c in (first, second)]
        if all(benches) and benches[0] != benches[1]:
            lab.console.say(f"two benches, {benches[0]} and {benches[1]}: what differs has not changed with time\n")
        if any(f.name == "output gain" for f in found):
            lab.console.say("gain: what 1 of one input adds, in the mean over inputs and outputs;")
            lab.console.say("output gain: what 1 of every input adds to one output, in the mean over outputs")
        lab.console.table(("family", "mean A", "mean B", "B − A", "std. error", "z", "largest z", "unit"), rows)
        lab.console.say("")
        for f in found:
            lab.console.say(f" {'✗' if f.changed else '✓'} {f.words}")
        for line in left:
            lab.console.say(f" – {line}")
    changed = [f.name for f in found if f.changed]
    document = {"a": first.id, "b": second.id, "families": found, "not_compared": left, "changed": changed}
    lab.console.result(document, f"changed: {', '.join(changed) or 'nothing'}")
