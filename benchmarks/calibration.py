"""How good is the calibration? All figures of its parts, each with its goal.

The channel fit against the Cramér–Rao bound, the choice of its form, what it costs, whole runs on the mock bench, bad
frames, drift, the paper's bench, and the response of imported benches. Each part is a benchmark of its own in this
folder, whose docstring states its question; a part that is not there is named and has no figures.

    python benchmarks/calibration.py [--json] [--quick] [--only PART …]
"""

from __future__ import annotations

import sys
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from _common import Figure, give_way, parser, show

PARTS = (
    "channel_bound",
    "channel_structure",
    "channel_cost",
    "bench_runs",
    "bad_frames",
    "bench_drift",
    "bench_paper",
    "response",
)


def figures(quick: bool, parts: tuple[str, ...] = PARTS) -> list[Figure]:
    """Of all parts, each figure's name led by its part's; progress on standard error."""
    found: list[Figure] = []
    for part in parts:
        if find_spec(part) is None:
            print(f"{part}: not there", file=sys.stderr)
            continue
        start = time.perf_counter()
        own = import_module(part).figures(quick)
        print(f"{part}: {len(own)} figures in {time.perf_counter() - start:.0f} s", file=sys.stderr)
        found += [entry | {"name": f"{part}: {entry['name']}"} for entry in own]
    return found


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))
    chosen = options.parse_args()
    show("calibration", lambda: figures(chosen.quick, tuple(chosen.only)), chosen.json)


if __name__ == "__main__":
    main()
else:
    give_way(__name__, Path(__file__).parent)
