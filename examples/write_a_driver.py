"""Write a driver for an instrument of your own, and open it by its name. About a second.

A driver is a class with its protocol's methods, options with ranges, and a `Backend` that joins them. A pyproject.toml
names it as an entry point of the group `labctl.drivers`; what pip makes of that line is written by hand here.
"""

import sys
import tempfile
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from drivers import Backend, Checked, Identity, OpenContext, Reading, open_role, option


@dataclass(frozen=True)
class Options(Checked):
    port: str
    averages: int = option(1, 100, default=10)  # allowed: 1 … 100


class Thermometer(AbstractContextManager):
    unit = "degC"

    def __init__(self, name: str, options: Options, context: OpenContext) -> None:
        self.name, self._options = name, options

    def __exit__(self, *exc: object) -> None: ...
    def close(self) -> None: ...
    def safe_state(self, timeout_s: float = 5.0) -> None: ...
    def snapshot(self, timeout_s: float = 5.0) -> dict[str, int]:
        return {"averages": self._options.averages}

    def identify(self) -> Identity:
        return Identity("Toy", "Thermometer", serial=self._options.port)

    def read(self, timeout_s: float = 2.0) -> Reading:
        return Reading(21.4, self.unit, at_s=0.0)  # here the instrument would be asked


THERMOMETER = Backend("toy.thermometer", ("monitor",), Options, Thermometer)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        names = Path(folder, "toy-1.0.dist-info", "entry_points.txt")
        names.parent.mkdir()
        names.write_text("[labctl.drivers]\ntoy.thermometer = write_a_driver:THERMOMETER\n")
        (names.parent / "METADATA").write_text("Name: toy\nVersion: 1.0\n")
        sys.path[:0] = [folder, str(Path(__file__).parent)]
        with open_role("toy.thermometer", "monitor", "room", {"port": "COM3"}, OpenContext()) as room:
            print(f"{room.identify().model} on {room.identify().serial}: {room.read().value} {room.unit}")


if __name__ == "__main__":
    main()
