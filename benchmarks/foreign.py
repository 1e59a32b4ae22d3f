"""Benches that nobody here made: the verdict, the intervals, the error and the accusations, against their truth.

Two measured benches beside the project (``../shared/data``) are fitted, too, where they are there.

Run: python benchmarks/foreign.py [--seeds 5] [--only NAME] [--json]
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from foreign_benches import BENCHES, Case, Session

from calibration.errors import CalibrationError
from calibration.response.fit import fit_response
from calibration.response.observations import Observations
from calibration.response.predict import predict

MEASURED = Path(__file__).parents[2] / "shared/data/measured"
BOUNDS = {"lcd_camera_cell_36x4_train": 0.20, "lcd_camera_36x4_train": 0.29}
"""Largest held-out error of each measured bench [% of range]; of the second one, what version 0.1.0 left."""
FLOOR, LOW, HIGH, ACCUSED = 1.1, 0.93, 0.97, 1e-3


@dataclass(frozen=True)
class Outcome:
    """What the fit made of a bench.

    Attributes
    ----------
    verdict
        ``"applied"``, ``"not applied"``, ``"refused"``, or the name of an exception that has no code.
    rms_over_floor
        rms of readings less prediction, over that of readings less truth, in the other session [1].
    coverage
        Readings of the other session inside their 95 % interval [1].
    accused, rows
        Good rows that were called bad, and good rows.
    missed
        What is not as it must be, in words.
    """

    bench: str
    seed: int
    verdict: str
    rms_over_floor: float
    coverage: float
    accused: int
    rows: int
    seconds: float
    words: str
    missed: tuple[str, ...]


def observations(case: Case, session: Session) -> Observations:
    return Observations(session.inputs, case.weights, session.readings, output=session.output)


def outcome(name: str, seed: int) -> Outcome:
    case = BENCHES[name](np.random.default_rng([seed, list(BENCHES).index(name)]))
    start = time.perf_counter()
    try:
        fit = fit_response(observations(case, case.train))
        found = predict(fit.response, observations(case, case.test))
    except CalibrationError as error:
        return _ended(name, seed, "refused", case, start, str(error).splitlines()[0])
    except Exception as error:  # the point of the benchmark: none of these may happen
        return _ended(name, seed, type(error).__name__, case, start, str(error))
    seconds = time.perf_counter() - start
    verdict = "applied" if fit.gate.applied else "not applied"
    chosen = {subject: choice.chosen for subject, choice in fit.structure.items()}
    words = "; ".join(f"{k}: {v}" for k, v in chosen.items()) + f"; {fit.gate.reason}"
    test = case.test
    good = np.ones(len(test.inputs), bool)
    good[list(test.wrong)] = False
    kept = good[(..., *[None] * (test.readings.ndim - 1))] & (test.readings < case.censored)
    rms = np.sqrt(np.mean((test.readings - found.mean)[kept] ** 2))
    floor = np.sqrt(np.mean((test.readings - test.mean)[kept] ** 2))
    coverage = float(np.mean(((test.readings >= found.low95) & (test.readings <= found.high95))[kept]))
    accused = sum(
        len({b.index for b in bad} - session.wrong)
        for bad, session in ((fit.bad_rows, case.train), (found.bad_rows, test))
    )
    rows = len(case.train.inputs) + len(test.inputs) - len(case.train.wrong) - len(test.wrong)
    missed = _missed(case, verdict, rms / floor, coverage, accused, rows)
    missed += tuple(
        f"{k} is {chosen.get(k)!r}, not {' or '.join(map(repr, v))}" for k, v in case.structure.items()
        if case.verdict == "applied" and chosen.get(k) not in v
    )  # fmt: skip
    return Outcome(name, seed, verdict, rms / floor, coverage, accused, rows, seconds, words, missed)


def _ended(name: str, seed: int, verdict: str, case: Case, start: float, words: str) -> Outcome:
    missed = () if verdict in case.verdict.split(" or ") else (f"{verdict}, not {case.verdict}: {words}",)
    return Outcome(name, seed, verdict, np.nan, np.nan, 0, 0, time.perf_counter() - start, words, missed)


def _missed(case: Case, verdict: str, ratio: float, coverage: float, accused: int, rows: int) -> tuple[str, ...]:
    found = [] if verdict in case.verdict.split(" or ") else [f"{verdict}, not {case.verdict}"]
    if case.verdict == "applied":
        # a share of readings has a standard error of its own: two of them around the goal are no miss
        if ratio > FLOOR:
            found.append(f"rms {ratio:.2f} × floor")
        if not LOW <= coverage <= HIGH:
            found.append(f"intervals hold {100 * coverage:.1f} %")
        if accused > max(ACCUSED * rows, 1):
            found.append(f"{accused} of {rows} good rows accused")
    return tuple(found)


def measured(name: str) -> str:
    """Held-out error of a measured bench, and whether its inputs have a curvature of their own; "" without the file."""
    path = MEASURED / f"{name}.npz"
    if not path.exists():
        return ""
    with np.load(path, allow_pickle=False) as file:
        fit = fit_response(Observations(file["inputs"], file["weights"], file["readings"]))
    rms, bound = float(np.nanmean(fit.gate.rms_percent_of_range)), BOUNDS[name]
    curve, misfit = fit.structure["nonlinearity"], fit.structure["misfit"]
    each = curve.reason[curve.reason.rindex("curvature of each input") :]
    return (
        f"{name}: {rms:.3f} % of range on held-out rows (at most {bound:.2f}), intervals hold "
        f"{100 * float(np.nanmean(fit.gate.coverage95)):.1f} %{'' if rms <= bound else '  MISSED'}\n"
        f"  {each}\n  misfit: {misfit.reason}"
    )


def table(outcomes: list[Outcome]) -> str:
    lines = [f"{'bench':<22}{'seed':>5}{'verdict':>14}{'× floor':>9}{'inside':>9}{'accused':>9}{'s':>6}"]
    for o in outcomes:
        lines.append(
            f"{o.bench:<22}{o.seed:>5}{o.verdict:>14}{o.rms_over_floor:>9.3f}{100 * o.coverage:>8.1f}%{o.accused:>9}"
            f"{o.seconds:>6.1f}" + "".join(f"\n    MISSED: {m}" for m in o.missed)
        )
        if o.missed:
            lines.append(f"      {o.words}")
    accused, rows = sum(o.accused for o in outcomes), sum(o.rows for o in outcomes)
    lines.append(f"good rows accused: {accused} of {rows} ({100 * accused / max(rows, 1):.3f} %)")
    lines.append(f"as they must be: {sum(not o.missed for o in outcomes)} of {len(outcomes)}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="benches of each kind")
    parser.add_argument("--only", action="append", choices=sorted(BENCHES), help="one kind")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    options = parser.parse_args()
    outcomes = [outcome(name, seed) for name in options.only or BENCHES for seed in range(options.seeds)]
    if options.json:
        document: dict[str, Any] = {"name": "foreign", "outcomes": [asdict(o) for o in outcomes]}
        print(json.dumps(document, ensure_ascii=False))
    else:
        print(table(outcomes))
        if not options.only:
            print(*filter(None, map(measured, BOUNDS)), sep="\n")


if __name__ == "__main__":
    main()
