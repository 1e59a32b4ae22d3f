"""Do runs survive whatever happens to them, and do nights say what happened?

Parts, each on a small mock bench:

- ``kills``: SIGKILL of the worker, the supervisor, or both at random moments, then ``labctl run resume``;
- ``twice``: two runs started at once on one bench;
- ``faults``: a hang in native code, a full disk, a camera unplugged for good, an interlock that opens, SIGINT;
- ``documents``: the documents that a run leaves for other programs are what those programs read;
- ``nights``: ninety nights with a slow drift, a knock, two dead devices and a full disk;
- ``twenty``: twenty nights in a row, ten of them on the bench behind real protocols, with faults at random.

    python benchmarks/survival.py [--json] [--quick] [--part kills] [--kills 300]
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import survival_ends
import survival_kills
import survival_nights
import survival_twenty
from _common import Figure, parser, show

PARTS = ("kills", "twice", "faults", "documents", "nights", "twenty")
KILLS, QUICK_KILLS = 300, 6


def figures(parts: list[str], kills: int, quick: bool) -> list[Figure]:
    """Of the parts, one after the other, in folders and with locks of their own."""
    found: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = str(Path(folder) / "state")
        for part in parts:
            here = Path(folder) / part
            here.mkdir()
            if part == "kills":
                third = max(1, kills // 3)
                found += survival_kills.figures(here, {"worker": kills, "supervisor": third, "both": third})
            elif part == "twice":
                found += survival_ends.twice(here)
            elif part == "faults":
                found += survival_ends.faults(here)
            elif part == "documents":
                found += survival_ends.documents(here)
            elif part == "nights":
                found += survival_nights.ninety(here, 12 if quick else 90)
            else:
                found += survival_twenty.twenty(here, 4 if quick else 20)
    return found


def main() -> None:
    found = parser(__doc__)
    found.add_argument("--part", choices=PARTS, action="append", help="only this one; repeatable")
    found.add_argument("--kills", type=int, default=None, help="of the worker; a third as many of each other kind")
    options = found.parse_args()
    usual = QUICK_KILLS if options.quick else KILLS
    kills = options.kills if options.kills is not None else usual
    show("survival", lambda: figures(options.part or list(PARTS), kills, options.quick), options.json)


if __name__ == "__main__":
    main()
