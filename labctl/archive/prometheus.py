"""``metrics.prom``: the few numbers of a run that somebody watches from afar, as a Prometheus text file.

The *age of the last success* is the one to raise an alarm on: it also tells that a timer never fired, which no exit
code can.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labctl.summary import Summary

_Sample = tuple[dict[str, str], float]


def prometheus(summary: Summary, last_success_s: float | None, disk_free_bytes: float | None) -> str:
    """The text.

    Parameters
    ----------
    last_success_s
        When the bench last ended a run as ``ok``, this one counted, seconds since the epoch; None for never.
    disk_free_bytes
        Of the disk that holds the runs; None where that is not known.
    """
    bench = {"bench": summary.bench or ""}
    lines: list[str] = []
    for name, words, samples in _families(summary, bench, last_success_s, disk_free_bytes):
        if samples:
            lines += [f"# HELP {name} {words}", f"# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}"]
            lines += [f"{name}{_labels(labels)} {value!r}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def _families(
    summary: Summary, bench: dict[str, str], last_success_s: float | None, disk_free_bytes: float | None
) -> Iterator[tuple[str, str, Sequence[_Sample]]]:
    success = [] if last_success_s is None else [(bench, float(last_success_s))]
    yield "labctl_run_last_success_timestamp_seconds", "When a run of the bench last ended as ok.", success
    code = [] if summary.exit_code is None else [(bench, float(summary.exit_code))]
    yield "labctl_run_last_exit_code", "Exit code of the last run.", code
    took = [] if summary.duration_s is None else [(bench, summary.duration_s)]
    yield "labctl_run_duration_seconds", "How long the last run took.", took
    values = {m.name: float(m.value) for m in summary.metrics if m.value is not None}
    yield (
        "labctl_run_metric_value",
        "A figure of the last run, in the unit of its summary.",
        [({**bench, "metric": name}, value) for name, value in values.items()],
    )
    yield (
        "labctl_run_metric_ewma_z",
        "Distance of a chart's moving average from its centre, in its standard deviations.",
        [({**bench, "metric": chart.metric}, float(chart.z)) for chart in summary.drift if chart.z is not None],
    )
    opened = sum(event.event == "reopened" for event in summary.device_events)
    yield "labctl_run_device_reconnects_total", "Devices opened again in the last run.", [(bench, float(opened))]
    free = [] if disk_free_bytes is None else [(bench, float(disk_free_bytes))]
    yield "labctl_disk_free_bytes", "Free on the disk that holds the runs.", free


def _labels(labels: dict[str, str]) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
