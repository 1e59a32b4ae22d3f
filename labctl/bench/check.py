"""Whether a station's devices could be opened, as far as that is known without opening one."""

from __future__ import annotations

from dataclasses import dataclass

from drivers.errors import DeviceError
from drivers.registry import check_options
from labctl.bench.bench import open_context
from labctl.station.loading import LoadedStation


@dataclass(frozen=True)
class CheckedRow:
    """One row of ``labctl station check``: what was looked at, ``PASS`` or ``FAIL``, what was seen, what to do."""

    check: str
    state: str
    detail: str
    fix: str = ""


def check_station(loaded: LoadedStation) -> list[CheckedRow]:
    """One row for the file and one for each device: its backend is installed, fits the role, takes the options."""
    context = open_context(loaded.station)
    rows = [CheckedRow("station file", "PASS", str(loaded.path))]
    for name, device in loaded.station.devices.root.items():
        row = CheckedRow(f"devices.{name}", "PASS", device.backend)
        try:
            check_options(device.backend, device.role, device.options, context, name)
        except DeviceError as error:
            facts = f" (expected {error.expected}, seen {error.seen})" if error.expected else ""
            row = CheckedRow(row.check, "FAIL", f"{error.code} {error.what}{facts}", error.hint)
        rows.append(row)
    return rows
