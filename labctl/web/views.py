"""What each page shows, from the archive: run browser, one run, nights and charts, calibrations and differences."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from groundwork.errors import CodedError, FileRefused
from labctl.archive.calibrations import CalibrationStore
from labctl.archive.index import RunRow
from labctl.archive.preview import read_preview, stamp_of
from labctl.archive.seal import REPORT
from labctl.archive.tail import Folded
from labctl.durations import in_words as span
from labctl.summary import Metric, Summary, number
from labctl.web.camera import facts_of
from labctl.web.catalogue import Catalogue
from labctl.web.files import LISTED_MAX, files_of
from labctl.web.kept import Kept
from labctl.web.now import MEANINGS

PER_PAGE = 50
NIGHTS = 30
EVENTS_MAX = 300
KEPT_S = 10.0
"""Charts and calibrations are read anew this seldom [s]."""
Asked = Mapping[str, str]
Shown = dict[str, Any]


class Views:
    """Of one archive.

    Parameters
    ----------
    catalogue
        Its runs.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._store = CalibrationStore(catalogue.runs)
        self._nights: Kept[Shown] = Kept(KEPT_S)
        self._stored: Kept[Shown] = Kept(KEPT_S, 1)
        self._differences: Kept[Shown] = Kept(KEPT_S)

    def runs(self, asked: Asked) -> Shown:
        """The run browser: some runs, newest first, by bench, purpose, verdict and a part of the id."""
        every = self._catalogue.rows()
        keys = {"bench": "bench", "purpose": "purpose", "verdict": "status"}
        wanted = {name: asked.get(name, "") for name in keys}
        part = asked.get("part", "").strip()
        found = [
            row
            for row in every
            if part in row.run_id
            and all(not wanted[name] or getattr(row, key) == wanted[name] for name, key in keys.items())
        ]
        choices = {name: sorted({str(getattr(row, key)) for row in every} - {""}) for name, key in keys.items()}
        pages = max(1, -(-len(found) // PER_PAGE))
        page = min(max(_whole(asked.get("page", "1")), 1), pages)
        return {
            "rows": [_line(row) for row in found[(page - 1) * PER_PAGE : page * PER_PAGE]],
            "count": len(found),
            "every": len(every),
            "page": page,
            "pages": pages,
            "wanted": {**wanted, "part": part},
            "choices": choices,
        }

    def run(self, asked: Asked) -> Shown | None:
        """One run."""
        reader = self._catalogue.reader(asked["run_id"])
        if reader is None:
            return None
        summary, trouble = None, ""
        try:
            summary, status = reader.summary(), reader.status
        except (CodedError, FileRefused) as error:
            trouble, status = f"{error.code}  {error.what}", "damaged"
        preview = read_preview(reader.path)
        return {
            "run_id": reader.run_id,
            "info": {
                key: str(reader.info.get(key) or "") for key in ("purpose", "bench", "mode", "started", "finished")
            },
            "status": status,
            "meaning": MEANINGS.get(status, ""),
            "summary": summary,
            "trouble": trouble,
            "headline": _headline(summary) if summary else [],
            "metrics": [_figure(metric) for metric in _judged_first(summary)],
            "nodes": [_node(node) for node in summary.nodes] if summary else [],
            "events": self._events(reader),
            "files": files_of(reader.path),
            "listed_max": LISTED_MAX,
            "has_report": (reader.path / REPORT).is_file(),
            "camera": facts_of(preview) if preview else None,
            "stamp": stamp_of(reader.path),
            "folder": str(reader.path),
        }

    def _events(self, reader: Any) -> list[str]:
        folded, lines = Folded(), []
        try:
            for event in reader.journal():
                lines += folded.lines(event)
            lines += folded.rest()
        except (CodedError, FileRefused) as error:
            return [f"{error.code}  {error.what}"]
        return lines[-EVENTS_MAX:]

    def nights(self, asked: Asked) -> Shown:
        """The last nights of a bench, and its control charts."""
        from labctl.night.charts import PURPOSE

        nightly = [row.bench for row in self._catalogue.rows() if row.purpose == PURPOSE and row.bench]
        benches = list(dict.fromkeys(nightly + self._catalogue.benches()))
        bench = asked.get("bench", "")
        if bench not in benches:
            bench = benches[0] if benches else ""
        return {"bench": bench, "benches": benches, **self._nights.get(bench, lambda: self._of_bench(bench))}

    def _of_bench(self, bench: str) -> Shown:
        from labctl.night.charts import charts, in_words
        from labctl.night.history import night_status
        from labctl.web.chart import drawing_of

        with self._catalogue.reading():
            status = night_status(self._catalogue.runs, bench, NIGHTS) if bench else None
            found = [chart for chart in charts(self._catalogue.runs, bench) if chart.points] if bench else []
        return {
            "status": status,
            "nights": [(night, span(night.duration_s) if night.duration_s is not None else "–")
                       for night in status.nights] if status else [],
            "charts": [drawing_of(chart, in_words(chart)) for chart in found],
        }  # fmt: skip

    def calibrations(self, asked: Asked) -> Shown:
        """The calibrations, which are applied, and what has changed between two of them."""
        a, b = asked.get("a", ""), asked.get("b", "")
        shown = {**self._stored.get("", self._calibrations), "a": a, "b": b, "families": [], "left": [], "refused": ""}
        ids = {row.id for row in shown["rows"]}
        if a in ids and b in ids and a != b:
            shown |= self._differences.get((a, b), lambda: self._difference(a, b))
        elif a or b:
            shown["refused"] = "Choose two different calibrations of the list."
        return shown

    def _calibrations(self) -> Shown:
        applied = {}
        for bench in self._store.benches():
            with suppress(CodedError, FileRefused):
                if decision := self._store.applied(bench):
                    applied[decision.id] = decision
        return {"rows": self._store.rows(), "applied": applied}

    def _difference(self, a: str, b: str) -> Shown:
        from labctl.engine.calibrations import difference, open_calibration

        try:
            paths = (str(self._store.path(name)) for name in (a, b))
            first, second = (open_calibration(self._catalogue.runs, path) for path in paths)
            found, left = difference(first, second)
        except (CodedError, FileRefused) as error:
            return {"refused": f"{error.code}  {error.what}"}
        return {"families": found, "left": left}


def _line(row: RunRow) -> Shown:
    return {"row": row, "duration": _duration(row), "short": row.run_id.rpartition("-")[2]}


def _duration(row: RunRow) -> str:
    try:
        ended, began = (dt.datetime.fromisoformat(moment) for moment in (row.finished or "", row.started))
    except ValueError:
        return "–"
    return span((ended - began).total_seconds())


def _headline(summary: Summary) -> list[tuple[str, str]]:
    """Large numbers and what they are."""
    cells = []
    if v := summary.validation:
        cells += [
            (number(v.effective_bits, ".1f"), "effective bits"),
            (number(v.nrmse, ".2%"), "rms error of the output range"),
            (number(v.chi2_per_dof, ".2f"), "χ² per degree of freedom"),
            (number(v.coverage95, ".1%"), "of outputs inside their 95 % interval"),
        ]
    if s := summary.simulation:
        p = s.perplexity
        cells.append((f"{number(p.digital, '.2f')} → {number(p.optical, '.2f')}", "perplexity, digital → optical"))
    return cells


def _judged_first(summary: Summary | None) -> list[Metric]:
    """What is out of spec, then what a limit judges, then the rest."""
    if summary is None:
        return []
    return sorted(summary.metrics, key=lambda metric: (metric.verdict != "out_of_spec", metric.limit is None))


def _figure(metric: Metric) -> Shown:
    value, stderr, unit = metric.parts
    return {
        "name": metric.name.replace("_", " "),
        "value": value,
        "stderr": stderr,
        "unit": unit,
        "limit": str(metric.limit or ""),
        "out": metric.verdict == "out_of_spec",
        "judged": metric.limit is not None,
    }


def _node(node: Any) -> Shown:
    state = str(node.check or node.state).replace("_", " ")
    took = span(node.duration_s) if node.duration_s is not None else ""
    return {"name": node.name, "state": state, "took": took, "reason": node.reason or ""}


def _whole(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 1
