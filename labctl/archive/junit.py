"""``junit.xml``: a run as a test report, for whatever shows such reports.

One suite for the bench; one case for each node, each metric with a limit, each control chart, and the verdict. A
*failure* is a bench out of spec, an *error* a fault: pages of continuous integration show the two apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from labctl.verdicts import Verdict, explain_exit

if TYPE_CHECKING:
    from labctl.summary import ChartState, Metric, Node, Summary

_FAILURES = frozenset({Verdict.OUT_OF_SPEC, Verdict.DRIFT})
_GOOD = frozenset({Verdict.OK})


def junit(summary: Summary, properties: Mapping[str, str]) -> str:
    """The report as XML.

    Parameters
    ----------
    properties
        Of the suite: run id, commit, hash of the configuration.
    """
    bench = summary.bench or "no bench"
    cases = [*_of_nodes(summary), *_of_metrics(summary), *_of_charts(summary), _of_verdict(summary)]
    suite = ElementTree.Element("testsuite", name=bench, tests=str(len(cases)))
    for kind in ("failure", "error", "skipped"):
        word = kind if kind == "skipped" else f"{kind}s"
        suite.set(word, str(sum(case.find(kind) is not None for case in cases)))
    if summary.started is not None:
        suite.set("timestamp", summary.started.isoformat())
    if summary.duration_s is not None:
        suite.set("time", f"{summary.duration_s:.3f}")
    listed = ElementTree.SubElement(suite, "properties")
    for name, value in properties.items():
        ElementTree.SubElement(listed, "property", name=name, value=_clean(value))
    suite.extend(cases)
    ElementTree.indent(suite)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suite, encoding="unicode") + "\n"


def _of_nodes(summary: Summary) -> Iterator[ElementTree.Element]:
    for node in summary.nodes:
        case = _case("node", node.name, node.duration_s)
        if (kind := _kind(node)) is not None:
            _say(case, kind, node.reason or node.state)
        yield case


def _kind(node: Node) -> str | None:
    if node.check == "out_of_spec":
        return "failure"
    if node.state == "failed" or node.check == "bad_data":
        return "error"
    return "skipped" if node.state in ("kept", "skipped") else None


def _of_metrics(summary: Summary) -> Iterator[ElementTree.Element]:
    for metric in summary.metrics:
        if metric.limit is not None:
            case = _case("metric", metric.name)
            words = _words(metric)
            if metric.verdict == "out_of_spec":
                _say(case, "failure", words)
            else:
                ElementTree.SubElement(case, "system-out").text = _clean(words)
            yield case


def _words(metric: Metric) -> str:
    value = "not a number" if metric.value is None else f"{metric.value:.4g}"
    unit = "" if metric.unit in ("", "1") else f" {metric.unit}"
    return f"{metric.name} {value}{unit}, limit {metric.limit}"


def _of_charts(summary: Summary) -> Iterator[ElementTree.Element]:
    for chart in summary.drift:
        case = _case("drift", chart.metric)
        words = _state(chart)
        if chart.state == "alarm":
            _say(case, "failure", words)
        elif chart.state == "learning":
            _say(case, "skipped", words)
        else:
            ElementTree.SubElement(case, "system-out").text = _clean(words)
        yield case


def _state(chart: ChartState) -> str:
    value = "no value" if chart.value is None else f"{chart.value:.4g} {chart.unit}".rstrip()
    z = "" if chart.z is None else f", {chart.z:+.1f} of {chart.limit:g} standard deviations"
    return f"{chart.metric} {value}{z}: {chart.state.replace('_', ' ')} after {chart.nights} nights"


def _of_verdict(summary: Summary) -> ElementTree.Element:
    case = _case("run", "verdict")
    if summary.verdict in _GOOD:
        return case
    error = summary.first_error
    words = f"{error.code} {error.device} {error.message}" if error else _meaning(summary)
    _say(case, "failure" if summary.verdict in _FAILURES else "error", f"{summary.verdict}: {words}")
    return case


def _meaning(summary: Summary) -> str:
    return "no seal was found" if summary.exit_code is None else explain_exit(summary.exit_code).meaning


def _case(group: str, name: str, duration_s: float | None = None) -> ElementTree.Element:
    case = ElementTree.Element("testcase", classname=group, name=_clean(name))
    if duration_s is not None:
        case.set("time", f"{duration_s:.3f}")
    return case


def _say(case: ElementTree.Element, kind: str, words: str) -> None:
    ElementTree.SubElement(case, kind, message=_clean(words))


def _clean(text: str) -> str:
    """Without the characters that XML cannot carry."""
    return "".join(c if c >= " " or c in "\t\n\r" else "�" for c in text if not "\ud800" <= c <= "\udfff")
