"""The notebook runs from its first cell to its figure, and shows what it showed when it was written.

Its cells are run one after the other in one process, as a kernel would, without one: no server is needed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from processes import LIMIT_S

NOTEBOOK = Path(__file__).parents[2] / "examples" / "from_bench_to_figure.ipynb"
AFTER = """
import json as _json
import matplotlib.pyplot as _plt
[_axes] = _plt.figure(_plt.get_fignums()[-1]).axes
_line = _axes.lines[0]
assert len(_plt.get_fignums()) == 1
print(_json.dumps([list(map(float, _line.get_xdata())), list(map(float, _line.get_ydata())), digital.ppl]))
"""


@pytest.fixture(scope="module")
def notebook() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return found


def test_it_is_a_notebook_whose_cells_have_been_run_in_order(notebook: dict[str, Any]) -> None:
    assert (notebook["nbformat"], notebook["metadata"]["kernelspec"]["language"]) == (4, "python")
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    kinds = {kind for cell in code for output in cell["outputs"] for kind in output.get("data", {})}
    assert {"image/png", "text/html"} <= kinds
    tables = ["".join(o["data"].get("text/html", "")) for cell in code for o in cell["outputs"] if "data" in o]
    for shown in ("<strong>run ", "<strong>calibration cal-", "<table>"):
        assert any(shown in table for table in tables)
    assert not any(output["output_type"] == "error" for cell in code for output in cell["outputs"])


@pytest.mark.slow
def test_its_cells_lead_to_the_figure(notebook: dict[str, Any], tmp_path: Path) -> None:
    code = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join([*code, AFTER])],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "Agg", "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stderr
    light, perplexities, digital = json.loads(done.stdout.splitlines()[-1])
    assert light == [30, 100, 300, 1000, 3000]
    assert perplexities[0] > perplexities[-1]
    assert digital < perplexities[-1] < 1.5 * digital
