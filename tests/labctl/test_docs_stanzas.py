"""Stanzas of station files that a page gives: each names a backend that exists and options that it takes."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from drivers.options import parse
from drivers.registry import GROUP

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "connect-your-slm-and-camera.md"
BLOCKS = re.findall(r"^```toml\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("text", BLOCKS, ids=lambda text: re.findall(r'backend = "([^"]+)"', text)[0])
def test_stanza_is_what_its_backend_takes(text: str) -> None:
    backends = {point.name: point for point in entry_points(group=GROUP)}
    for name, table in tomllib.loads(text)["devices"].items():
        backend = backends[table["backend"]].load()
        assert table.get("role", name) in backend.roles
        parse(backend.options, table.get("options", {}), name)


def test_page_shows_every_way_to_a_panel_and_a_camera() -> None:
    shown = {table["backend"] for text in BLOCKS for table in tomllib.loads(text)["devices"].values()}
    for point in entry_points(group=GROUP):
        backend = point.load()
        if backend.families and {"camera", "slm"} & set(backend.roles) and backend.name not in ("genicam.usb3",):
            assert backend.name in shown | {"pylablib.camera"}, "a stanza in docs/how-to/connect-your-slm-and-camera.md"
