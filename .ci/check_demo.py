"""Run `labctl demo --json` as a stranger would and hold it to what it promises."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        done = subprocess.run(["labctl", "demo", "--json", "--runs", folder], stdout=subprocess.PIPE, text=True)
        seconds = time.monotonic() - started
    summary = json.loads(done.stdout)
    validation, perplexity = summary["validation"], summary["simulation"]["perplexity"]
    promises = {
        "exit code 0, verdict ok": done.returncode == 0 and summary["verdict"] == "ok",
        "at least 512 held-out products": validation["products"] >= 512,
        "chi2 per degree of freedom in 0.9-1.1": 0.9 <= validation["chi2_per_dof"] <= 1.1,
        "coverage of the 95 % interval in 0.93-0.97": 0.93 <= validation["coverage95"] <= 0.97,
        "three perplexities": all(perplexity[name] > 1 for name in ("digital", "int8", "optical")),
    }
    for promise, kept in promises.items():
        print("kept  " if kept else "BROKEN", promise)
    print(f"{seconds:.0f} s; {json.dumps(validation)}; {json.dumps(summary['simulation'])}")
    return 0 if all(promises.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
