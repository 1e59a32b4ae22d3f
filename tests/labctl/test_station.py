"""The station file: origins, typos, wrong types."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.errors import ConfigError, UsageError, render
from labctl.resources import data_path
from labctl.station.loading import find_station, load_station, toml_text
from labctl.station.model import Station


def station_file(folder: Path, text: str) -> Path:
    path = folder / "bench.toml"
    path.write_text(text)
    return path


def test_shipped_mock_station_states_the_defaults() -> None:
    loaded = load_station()
    assert loaded.station.model_copy(update={"station": Station().station}) == Station()
    stated = {key for key, origin in loaded.origins.items() if origin != "default"}
    assert stated >= {key for key in loaded.origins if not key.endswith((".options", ".reset", ".reset_timeout_s"))}


def test_every_key_has_the_origin_it_came_from(tmp_path: Path) -> None:
    path = station_file(tmp_path, '[bench]\nname = "b"\n\n[acquisition]\nexposure_s = 0.02\n')
    loaded = load_station(path, ["acquisition.dark_frames=8", "camera.quantum_efficiency = 0.5"])
    assert loaded.origins["bench.name"] == f"{path}:2"
    assert loaded.origins["acquisition.exposure_s"] == f"{path}:5"
    assert loaded.origins["acquisition.dark_frames"] == "--set"
    assert loaded.origins["layout.rows"] == "default"
    assert loaded.station.camera.quantum_efficiency == 0.5
    assert set(loaded.values()) == set(loaded.origins)


def test_override_wins_over_the_file(tmp_path: Path) -> None:
    path = station_file(tmp_path, "[layout]\nrows = 16\n")
    assert load_station(path, ["layout.rows=32"]).station.layout.rows == 32


def test_override_that_is_no_toml_value_is_a_string() -> None:
    assert load_station(None, ["station.notes=lens 3, after lunch"]).station.station.notes == "lens 3, after lunch"


@pytest.mark.parametrize(
    ("text", "key", "guess"),
    [
        ("[camera]\nquantum_eficiency = 0.5\n", "camera.quantum_eficiency", "camera.quantum_efficiency"),
        ("[aquisition]\nexposure_s = 0.5\n", "aquisition", "acquisition"),
        ('[devices.slm]\nbackend = "mock.slm"\noption = 3\n', "devices.slm.option", "devices.slm.options"),
        ('[devices.camra]\nbackend = "mock.camera"\n', "devices.camra", "devices.camera"),
    ],
)
def test_unknown_key_names_file_line_and_nearest_key(tmp_path: Path, text: str, key: str, guess: str) -> None:
    path = station_file(tmp_path, text)
    with pytest.raises(ConfigError, match=f"unknown key {key}") as caught:
        load_station(path)
    assert f"did you mean {guess}?" in caught.value.hint
    assert caught.value.device.startswith(f"{path}:")


@pytest.mark.parametrize(
    ("text", "key", "expected", "seen"),
    [
        ('[layout]\nrows = "many"\n', "layout.rows", "a valid integer", "'many' (str)"),
        ("[layout]\nrows = 1.5\n", "layout.rows", "a valid integer", "1.5 (float)"),
        ("[layout]\nrows = true\n", "layout.rows", "a valid integer", "True (bool)"),
        ("[layout]\nrows = 0\n", "layout.rows", "greater than or equal to 1", "0 (int)"),
        ('[bench]\nmode = "real"\n', "bench.mode", "'mock' or 'hardware'", "'real' (str)"),
        ("[limits]\nnrmse_max = nan\n", "limits.nrmse_max", "a finite number", "nan (float)"),
        ("[layout]\nactive_rows_px = 9\n", "layout", "an active area no larger than the pitch", ""),
        ("[devices.slm]\n", "devices.slm.backend", "a value", ""),
        ('[devices.slm]\nrole = ["slm"]\n', "devices.slm.role", "a valid string", "['slm'] (list)"),
        ("[devices.slm]\nrole = 3\n", "devices.slm.role", "a valid string", "3 (int)"),
        ('[devices.x]\nrole = "camra"\nbackend = "mock.camera"\n', "devices.x.role", "one of source", "'camra' (str)"),
        ('[devices.camera]\nrole = "monitor"\nbackend = "mock.monitor"\n', "devices", "one camera, not none", ""),
        (
            '[devices."a.b"]\nrole = "monitor"\nbackend = "x"\n',
            "devices.a.b",
            "a device name of letters",
            "'a.b' (str)",
        ),
        ('[devices.""]\nrole = "monitor"\nbackend = "x"\n', "devices.", "a device name of letters", "'' (str)"),
        ('[bench]\nmode = "hardware"\n', "the station", 'bench.mode = "mock" while a device is', ""),
    ],
)
def test_wrong_value_says_expected_and_seen(tmp_path: Path, text: str, key: str, expected: str, seen: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_station(station_file(tmp_path, text))
    assert f"for {key}" in caught.value.what
    assert expected in caught.value.expected
    assert caught.value.seen == seen


def test_broken_toml_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="line 2"):
        load_station(station_file(tmp_path, "[layout]\nrows = = 3\n"))


def test_binary_file_is_a_config_error(tmp_path: Path) -> None:
    path = tmp_path / "bench.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_station(path)


def test_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load_station(tmp_path / "absent.toml")
    assert "labctl station init" in render(caught.value)


@pytest.mark.parametrize("override", ["layout.rows", "=3", "layout.rows.deep=1"])
def test_override_without_key_and_value_is_a_usage_error(override: str) -> None:
    with pytest.raises(UsageError, match="--set"):
        load_station(None, [override])


def test_typo_in_an_override_is_reported_like_one_in_the_file() -> None:
    with pytest.raises(ConfigError, match=r"unknown key layout\.rowz") as caught:
        load_station(None, ["layout.rowz=3"])
    assert "(--set)" in caught.value.device


def test_quoted_key_of_an_override_is_one_key() -> None:
    with pytest.raises(ConfigError, match=r"devices\.a\.b") as caught:
        load_station(None, ['devices."a.b".role="monitor"', 'devices."a.b".backend="mock.monitor"'])
    assert "a device name of letters" in caught.value.expected


def test_effective_station_round_trips_through_toml(tmp_path: Path) -> None:
    options = '[devices.slm.options]\nserial = "a \\"quoted\\" one"\nregion = [1, 2]\nnested = {x = 1.5, y = [true]}\n'
    loaded = load_station(station_file(tmp_path, '[devices.slm]\nbackend = "mock.slm"\n' + options))
    again = load_station(station_file(tmp_path, loaded.to_toml()))
    assert again.station == loaded.station


toml_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner.filter(lambda v: v is not None), max_size=3)
        | st.dictionaries(st.text(min_size=1, max_size=5), inner, max_size=3)
    ),
    max_leaves=12,
)


def without_nulls(value: object) -> object:
    if isinstance(value, dict):
        return {key: without_nulls(v) for key, v in value.items() if v is not None}
    return [without_nulls(v) for v in value] if isinstance(value, list) else value


@given(st.dictionaries(st.text(min_size=1, max_size=5), toml_values, max_size=4))
def test_written_toml_is_read_back_by_the_standard_library(document: dict[str, object]) -> None:
    assert tomllib.loads(toml_text.dumps(document)) == without_nulls(document)


def test_bench_is_a_path_or_a_shipped_name(tmp_path: Path) -> None:
    path = station_file(tmp_path, "")
    assert find_station(str(path)) == path
    assert find_station("mock") == data_path("stations/mock.toml")
    assert find_station(None) is None
    with pytest.raises(UsageError) as caught:
        find_station("mok")
    assert "did you mean mock?" in caught.value.hint
