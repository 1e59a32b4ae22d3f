"""What befell devices and did not end the run, from the journal: so it is the same in a run that was resumed."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from labctl.archive import RunReader
from labctl.errors import LabError
from labctl.summary import DeviceEvent

log = logging.getLogger("labctl.events")

Line = Mapping[str, Any]
_NOT_CLOSED = "not closed in time, which ended the run"


def device_events(run: Path) -> list[DeviceEvent]:
    """Devices that were opened again, interlocks that were waited for, and a clock that jumped, in order.

    A journal that cannot be read, which must not keep the run from its seal, tells none.
    """
    try:
        return list(_events(RunReader(run).journal()))
    except (LabError, KeyError, ValueError, TypeError):
        log.exception("the journal of %s does not tell what befell the devices", run.name)
        return []


def _events(journal: Iterable[Line]) -> Iterator[DeviceEvent]:
    suspended: Line | None = None
    for line in journal:
        match line.get("event"):
            case "suspended":
                if suspended is not None:
                    yield _suspended(suspended, _NOT_CLOSED)
                suspended = line
            case "resumed" if suspended is not None:
                waited_s = line.get("waited_s")  # without it another process goes on
                yield _suspended(suspended, f"closed again after {waited_s:.1f} s" if waited_s else _NOT_CLOSED)
                suspended = None
            case "reopen" if line.get("opened"):
                for device in line.get("devices") or [line.get("device", "")]:
                    yield DeviceEvent(at=_at(line), device=device, event="reopened", words="opened again")
            case "clock":
                words = f"went {line['jumped_s']:+.1f} s against the monotonic clock: set, or the computer slept"
                yield DeviceEvent(at=_at(line), device="clock", event="jumped", words=words)
    if suspended is not None:
        yield _suspended(suspended, _NOT_CLOSED)


def _suspended(line: Line, how_it_ended: str) -> DeviceEvent:
    words = "; ".join(filter(None, (str(line["reason"]), how_it_ended)))
    return DeviceEvent(at=_at(line), device=str(line["device"]), event="suspended", words=words)


def _at(line: Line) -> dt.datetime:
    return dt.datetime.fromisoformat(str(line["at"]))
