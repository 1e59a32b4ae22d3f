"""A pipe, a folder or a device in the place of a file is refused at once by every command that reads one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

COMMANDS = {
    "station.toml": ["station", "check", "--bench"],
    "night.toml": ["plan", "--bench"],
    "products.h5": ["measure", "--bench", "mock"],
    "bench.calib.h5": ["simulate"],
    "model.gguf": ["simulate", "ideal"],
    "model.safetensors": ["simulate", "ideal"],
    "table.csv": ["import"],
    "array.npz": ["import"],
}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_what_is_no_file_is_refused_at_once(
    tmp_path: Path, labctl: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, name: str, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if kind == "pipe":
        os.mkfifo(name)
    elif kind == "folder":
        Path(name).mkdir()
    else:
        Path(name).symlink_to("/dev/zero")
    words = [*COMMANDS[name], name]
    exit_code, _, said = labctl(*words, *(["model"] if name == "bench.calib.h5" else []))
    assert exit_code == 2
    assert said.startswith("E-")
