"""The page that writes a driver: its files are installed as a package would be, and pass the contract."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from processes import LIMIT_S

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "write-a-driver.md"


def test_driver_of_the_page_passes_the_contract(tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    files = dict(re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    assert set(files) == {"acme_sdk.py", "labctl_acme.py", "test_acme.py"}
    for name, code in files.items():
        (tmp_path / name).write_text(code, encoding="utf-8")
    names = tmp_path / "labctl_acme-1.0.dist-info"
    names.mkdir()
    (names / "METADATA").write_text("Name: labctl-acme\nVersion: 1.0\n", encoding="utf-8")
    entry = re.search(r'^("acme\.camera" = "[\w:]+")', text, re.MULTILINE)
    assert entry is not None
    (names / "entry_points.txt").write_text("[labctl.drivers]\n" + entry[1].replace('"', "") + "\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "test_acme.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"\d+ passed", done.stdout)
