"""What does a driver cost? Frames in a second through each one, and through its library's own bare loop.

The bare loop is what a user of the library writes to have each frame in an array of their own: the same device, size,
pixel format and settings, streaming where the library streams, into an array for as many frames as are armed at once.
The driver's does more: it checks size, bit depth and alignment, counts saturated pixels and lost frames, and delivers
none that began before ``arm``. Both loops run turn and turn about, and the median of the ratios counts. A device that
keeps a rate of its own gives it to both. For instruments that are read, and panels, it is readings and patterns.

Each case runs in a process of its own. One whose library or endpoint is not installed is named, and has no figure.

    python benchmarks/drivers.py [--json] [--quick] [--only CASE …]
"""

from __future__ import annotations

import sys
from pathlib import Path

from _common import Figure, give_way, parser, show

if __name__ != "__main__":
    give_way(__name__, Path(__file__).parent)


def main() -> None:
    from driver_cases import CASES, figures

    options = parser(__doc__)
    options.add_argument("--only", nargs="+", choices=[*CASES], default=[*CASES], metavar="CASE")
    chosen = options.parse_args()

    def measured() -> list[Figure]:
        found: list[Figure] = []
        for name in chosen.only:
            print(name, file=sys.stderr)
            found += figures(name, chosen.quick)
        return found

    show("drivers", measured, chosen.json)


if __name__ == "__main__":
    main()
