"""Every shipped station calibrates as it is shipped: small ones say nothing of its size and couplings."""

import json

import pytest

from labctl.__main__ import main
from labctl.resources import data_path

STATIONS = sorted(path.stem for path in data_path("stations").glob("*.toml"))


@pytest.mark.slow
@pytest.mark.parametrize("name", STATIONS)
def test_a_shipped_station_calibrates_in_spec(name, tmp_path, capsys):
    assert main(["calibrate", "--bench", name, "--runs", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "ok"
