"""Do runs survive whatever happens to them, and do nights say what happened?

Parts, each on a small mock bench:

- ``kills``: SIGKILL of the worker, the supervisor, or both at random moments, then ``labctl run resume``;
- ``twice``: two commands started at once on one bench;
- ``faults``: a hang in native code, a full disk, a camera unplugged for good, interlocks that open or flap,
  a clock that jumps;
- ``sigint``: Ctrl-C once, twice, twenty times at every state of a run;
- ``signals``: every signal to the worker, the supervisor, both, and their group, at every state of a run (half an hour;
  only where it is asked for);
- ``documents``: the documents that a run leaves for other programs are what those programs read;
- ``nights``: ninety nights with a slow drift, two knocks, two dead devices and a full disk;
- ``twenty``: twenty nights in a row, ten of them on the bench behind real protocols, with faults at random.

    python benchmarks/survival.py [--json] [--quick] [--part kills] [--kills 300 | --each 20]

Exit code 1 where a goal was missed.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path

import survival_ends
import survival_kills
import survival_nights
import survival_signals
import survival_twenty
from _common import Figure, parser, show

PARTS = ("kills", "twice", "faults", "sigint", "documents", "nights", "twenty", "signals")
USUAL = PARTS[:-1]
KILLS, QUICK_KILLS = 300, 6
IGNORED_IN_THE_BACKGROUND = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
"""A shell has its background jobs ignore them, and what they start inherits that."""


def figures(parts: list[str], kills: dict[str, int], quick: bool, save: Path | None = None) -> list[Figure]:
    """Of the parts, one after the other, in folders and with locks of their own."""
    found: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = str(Path(folder) / "state")
        for part in parts:
            here = Path(folder) / part
            here.mkdir()
            if part == "kills":
                found += survival_kills.figures(here, kills)
            elif part == "twice":
                found += survival_ends.twice(here)
            elif part == "faults":
                found += survival_ends.faults(here)
            elif part == "sigint":
                found += survival_signals.sigint(here)
            elif part == "signals":
                found += survival_signals.matrix(here)
            elif part == "documents":
                found += survival_ends.documents(here)
            elif part == "nights":
                found += survival_nights.ninety(here, 45 if quick else 90, save)
            else:
                found += survival_twenty.twenty(here, 4 if quick else 20)
    return found


def main() -> None:
    found = parser(__doc__)
    found.add_argument("--part", choices=PARTS, action="append", help="only this one; repeatable")
    found.add_argument("--kills", type=int, default=None, help="of the worker; a third as many of each other kind")
    found.add_argument("--each", type=int, default=None, help="as many of each kind, instead")
    found.add_argument("--no-times", action="store_true", help="judge no duration: the machine does other things, too")
    found.add_argument("--save", type=Path, default=None, help="a folder that keeps the last night's report")
    options = found.parse_args()
    for number in IGNORED_IN_THE_BACKGROUND:
        signal.signal(number, signal.SIG_DFL)
    usual = QUICK_KILLS if options.quick else KILLS
    count = options.kills if options.kills is not None else usual
    third = max(1, count // 3)
    kills = {"worker": count, "supervisor": third, "both": third}
    if options.each is not None:
        kills = dict.fromkeys(kills, options.each)
    parts = options.part or list(USUAL)

    def measured() -> list[Figure]:
        rows = figures(parts, kills, options.quick, options.save)
        return [{**row, "reached": None} if options.no_times and row["unit"] == "s" else row for row in rows]

    well = show("survival", measured, options.json)
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
