"""Stations for the doors to other people's objects: a mock bench that is read in milliseconds."""

from __future__ import annotations

from pathlib import Path

TINY = """
[bench]
name = "tiny"
[source]
wavelength_nm = 633.0
[mock]
slm = { rows = 128, cols = 160 }
display = { rows = 128, cols = 160 }
camera = { rows = 150, cols = 190 }
"""


def tiny_station(folder: Path, more: str = "") -> Path:
    """A station file in a folder."""
    path = folder / "bench.toml"
    path.write_text(TINY + more, encoding="utf-8")
    return path
