"""Runs and calibrations taken elsewhere, as the libraries of other systems see them.

The run is one that lies in ``tests/data``, so that no bench is simulated here.
"""

from __future__ import annotations

import doctest
import gc
import json
import shutil
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from kept import unpacked

import labctl
from drivers.testing import require_module
from labctl.__main__ import main
from labctl.archive import RunReader, find_run
from labctl.doors.calibrations import record_of_calibration
from labctl.doors.events import documents
from labctl.doors.record import Record
from labctl.doors.runs import record_of_run

INSTALL = "pip install labctl[endpoints]"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked(tmp_path_factory.mktemp("kept"))


@pytest.fixture(scope="module")
def record(runs: Path) -> Record:
    return record_of_run(RunReader(find_run(runs, "latest")))


@pytest.fixture(scope="module")
def calibration(runs: Path) -> Path:
    (found,) = (runs / "calibrations").glob("*.calib.h5")
    return found


@pytest.fixture(scope="module")
def exported(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run and calibration as NeXus and as netCDF."""
    require_module("h5netcdf", INSTALL)
    folder = tmp_path_factory.mktemp("exported")
    for name in ("latest", "cal-"):
        for to in ("nexus", "xarray"):
            assert main(["export", name, "--to", to, "-o", str(folder), "--runs", str(runs), "--quiet"]) == 0
    return folder


def test_documents_of_run_and_calibration_validate(record: Record, calibration: Path) -> None:
    require_module("event_model", INSTALL)
    from event_model import DocumentNames, schema_validators

    for made in (record, record_of_calibration(calibration)):
        kinds = set()
        for name, document in documents(made):
            kinds.add(name)
            written = json.loads(json.dumps(document, allow_nan=False))
            schema_validators[DocumentNames[name]].validate(written)
        assert {"start", "descriptor", "event_page", "stop"} <= kinds
    assert made.streams[0].rows == 1


@pytest.fixture
def tiled(runs: Path) -> Iterator[Any]:
    """A client of a tiled server in this process, which may read the archive."""
    for module in ("tiled", "bluesky"):
        require_module(module, INSTALL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # their own affair
        from tiled.client import from_uri
        from tiled.server import SimpleTiledServer

        with SimpleTiledServer(readable_storage=[runs]) as server:
            client = from_uri(server.uri)
            yield client
            client.context.http_client.close()
        gc.collect()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(150)
def test_tiled_takes_the_documents_and_gives_the_data_back(tiled: Any, record: Record, runs: Path) -> None:
    from bluesky.callbacks.tiled_writer import TiledWriter

    wanted = ("dark", "gain", "gain_slm", "result_gain")  # of forty, each of which takes tiled a second
    few = replace(record, streams=[stream for stream in record.streams if stream.name in wanted])
    writer = TiledWriter(tiled)
    for name, document in documents(few):
        writer(name, json.loads(json.dumps(document)))
    run = tiled.values().first()
    assert run.metadata["start"]["run_id"] == record.id
    assert run.metadata["stop"]["exit_status"] == "success"
    segments = {
        s.row.kind if s.row.kind != "probe" else s.attrs["scan"]: s
        for s in RunReader(find_run(runs, "latest")).segments()
    }
    np.testing.assert_array_equal(run["dark"]["frames"].read(), segments["dark"].arrays["frames"])
    np.testing.assert_array_equal(run["gain_slm"]["slm_levels"].read(), segments["gain"].arrays["slm_levels"])
    table = run["gain"].base["internal"].read()
    np.testing.assert_array_equal(table["sequence"], segments["gain"].arrays["sequence"])
    np.testing.assert_array_equal(run["gain"]["readings_dn"].read(), segments["gain"].arrays["readings_dn"])


def test_xarray_opens_the_file_with_axes_units_and_errors(exported: Path, calibration: Path) -> None:
    import xarray

    (path,) = exported.glob("cal-*.nc")
    with xarray.open_dataset(path) as found, h5py.File(calibration) as ours:
        assert found["gain_dn"].dims == ("output", "input")
        assert found["gain_dn"].attrs["units"] == "DN"
        np.testing.assert_array_equal(found["gain_dn"], ours["gain_dn"][()])
        errors = found["gain_dn"].attrs["ancillary_variables"]
        np.testing.assert_array_equal(found[errors], ours["gain_stderr_dn"][()])
        assert found.attrs["calibration_id"] == calibration.name.removesuffix(".calib.h5")


def test_xarray_opens_a_run_by_what_was_measured(exported: Path, record: Record) -> None:
    import xarray

    path = exported / f"{record.id}.nc"
    with xarray.open_dataset(path) as found:
        assert float(found["value"].sel(metric="gain_mean")) > 0
        assert str(found["unit"].sel(metric="gain_mean").item()) == "DN"
        assert found.attrs["outcome"] == "success"
    (stream,) = [stream for stream in record.streams if stream.name == "gain"]
    readings = np.concatenate([part.arrays["readings_dn"] for part in stream.parts()])
    with xarray.open_dataset(path, group="gain") as found:
        assert found["readings_dn"].dims == ("frame", "output")
        np.testing.assert_array_equal(found["readings_dn"], readings)
        assert found["time"].dtype.kind == "M"
        at_s = found["time"].values.astype("int64") / 1e9
        np.testing.assert_allclose(at_s, np.concatenate([part.time_s for part in stream.parts()]), atol=1e-6)


def test_file_of_xarray_is_what_python_gives(exported: Path, runs: Path, record: Record) -> None:
    import xarray

    tree = labctl.to_xarray(labctl.open_run("latest", runs))
    assert set(tree.children) == {stream.name for stream in record.streams} | {"texts"}
    assert "[layout]" in str(tree["texts/config_toml"].item())
    with xarray.open_datatree(exported / f"{record.id}.nc") as written:
        for name in ("gain", "dark", "baseline", "segments", "result_noise"):
            if name in tree.children:
                xarray.testing.assert_equal(tree[name].to_dataset(), written[name].to_dataset().load())


def test_example_in_the_docstring_works(
    calibration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    require_module("xarray", INSTALL)
    shutil.copy(calibration, tmp_path / "bench.calib.h5")
    monkeypatch.chdir(tmp_path)
    (example,) = doctest.DocTestFinder(recurse=False).find(labctl.to_xarray, "to_xarray", globs={})
    failed, tried = doctest.DocTestRunner().run(example)
    assert (failed, tried) == (0, 3), capsys.readouterr().out


def test_every_array_of_a_foreign_calibration_has_axes_of_one_length(tmp_path: Path) -> None:
    """Of an import, whose arrays are other ones; the portable form states no units, and is refused."""
    require_module("xarray", INSTALL)
    rng = np.random.default_rng(1)
    inputs, weights = rng.random((400, 12)), rng.random((4, 12))
    found = labctl.fit(inputs, weights, 50 + 100 * inputs @ weights.T + rng.normal(0, 2, (400, 4)))
    from calibration.response.artefact import save_response

    full, twin = save_response(found.response, tmp_path)
    tree = labctl.to_xarray(full)
    assert tree["gain"].dims == ("output", "input")
    np.testing.assert_array_equal(tree["gain"], found.response.gain)
    assert set(found.response.arrays()) == set(tree.data_vars)
    with pytest.raises(Exception, match="does not state the units") as caught:
        labctl.to_xarray(twin)
    assert caught.value.code == "E-USE-001"


def test_nexus_reader_of_others_finds_and_draws_the_default(exported: Path, record: Record, tmp_path: Path) -> None:
    """nexusformat is the reader of NeXpy; it follows ``@default`` and plots signal against axes by itself."""
    require_module("nexusformat", INSTALL)
    import matplotlib

    matplotlib.use("Agg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own affair
        from nexusformat.nexus import nxload

        for path in sorted(exported.glob("*.nxs")):
            root = nxload(path)
            data = root.get_default()
            assert data.nxsignal.nxname in ("readings_dn", "gain_dn")
            assert data.nxsignal.attrs["units"] == "DN"
            assert [len(axis) for axis in data.nxaxes] == list(data.nxsignal.shape)
            assert {"source", "camera", "slm"} <= set(root["entry/instrument"])
            picture = tmp_path / f"{path.stem}.png"
            root.plot()
            matplotlib.pyplot.savefig(picture)
            matplotlib.pyplot.close("all")
            assert len(np.unique(matplotlib.pyplot.imread(picture).reshape(-1, 4), axis=0)) > 20
            if "calibration" in root["entry"]:
                assert data.nxerrors is not None


def test_missing_package_is_said_with_what_to_type(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "h5netcdf", None)
    assert main(["export", "cal-", "--to", "xarray", "-o", str(tmp_path), "--runs", str(runs)]) == 2
    assert "pip install 'labctl[xarray]'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
