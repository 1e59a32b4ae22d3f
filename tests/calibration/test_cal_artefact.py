"""The exported file: round trips, its id, and everything that must not be loaded."""

import copy
import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import h5py
import jsonschema
import numpy as np
import pytest
from cal_bench import bench
from safetensors.numpy import load_file, save_file

from calibration.errors import ArtefactError
from calibration.machine.artefact import SCHEMA, UNITS, Calibration, Domain, load, save
from calibration.machine.findings import Findings
from calibration.machine.noise import Noise
from calibration.machine.registration import Registration

FORMS = ["h5", "safetensors"]
SCHEMA_FILE = Path(__file__).parents[2] / "data" / "schemas" / "calibration-1.schema.json"


def calibration(**changes):
    rng = np.random.default_rng(1)
    machine = bench((5, 6), "full").machine()
    c = machine.channel
    errors = {f"{n}_stderr": rng.random(getattr(c, n).shape) for n in ("crosstalk", "bleed")}
    errors |= {"gain_stderr_dn": rng.random((5, 6)), "offset_stderr_dn": rng.random(5)}
    channel = replace(c, **errors, noise=Noise(12.25, 0.1 + 0.2, 1 / 3000, rng.random(3)))
    points = rng.random((7, 2))
    seen = Registration("slm", np.eye(3) + 0.01, points, points + 1, points - 2, "affine", 0.25)
    fields = {
        "machine": replace(machine, channel=channel),
        "domain": Domain(0.004, 5, 6, 0.62, 532.0),
        "acquired": "2026-11-23T02:00:00Z",
        "valid_until": "2026-11-24T02:00:00Z",
        "evidence": Findings.from_json(
            {"gain": {"structure": "full", "aic": [0.0, 3.5]}, "validation": {"nrmse": 0.01}}
        ),
        "provenance": {"run_id": "r-1", "bench": "mock", "commit": None},
        "parent": "cal-0123456789abcdef",
        "registrations": {"slm": seen},
    }
    return Calibration(**{**fields, **changes})


CAL = calibration()


def arrays(c):
    return {name: np.asarray(a) for name, a in c._arrays().items()}


@pytest.fixture
def saved(tmp_path):
    full, twin = save(CAL, tmp_path)
    return {"h5": full, "safetensors": twin}


@pytest.mark.parametrize("form", FORMS)
def test_what_is_loaded_is_what_was_saved(saved, form):
    again = load(saved[form])
    assert again.id == CAL.id
    assert again.header() == CAL.header()
    for name in ("domain", "acquired", "valid_until", "evidence", "provenance", "parent"):
        assert getattr(again, name) == getattr(CAL, name)
    assert again.machine.layout == CAL.machine.layout
    assert again.machine.encoding.name == CAL.machine.encoding.name
    assert set(arrays(again)) == set(UNITS)
    for name, array in arrays(CAL).items():
        assert np.array_equal(arrays(again)[name], array)
    levels = np.random.default_rng(2).integers(0, 256, (4, 6)).astype(np.uint8)
    pattern = np.random.default_rng(3).integers(0, 256, (5, 6)).astype(np.uint8)
    for ours, theirs in zip(again.machine.predict(pattern, levels), CAL.machine.predict(pattern, levels), strict=True):
        assert np.array_equal(ours, theirs)


def test_files_are_named_after_the_id_and_nothing_else_is_left(saved, tmp_path):
    assert {p.name for p in tmp_path.iterdir()} == {f"{CAL.id}.calib.h5", f"{CAL.id}.calib.safetensors"}
    save(CAL, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_failed_write_leaves_no_file(tmp_path, monkeypatch):
    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("groundwork.files.os.fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        save(CAL, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_disk_that_gets_full_is_an_error_of_the_system_and_leaves_no_file(share, saved, full_after, tmp_path):
    """HDF5 cannot close a file that it cannot write: that was an error of its own, and the end of the process."""
    size = int(share * saved["h5"].stat().st_size)
    with full_after(size), pytest.raises(OSError, match="File too large") as refused:
        save(CAL, tmp_path / "full")
    assert refused.value.errno == errno.EFBIG
    assert not list((tmp_path / "full").iterdir())


def test_the_twin_is_read_without_our_code(saved):
    tensors = load_file(saved["safetensors"])
    assert np.array_equal(tensors["gain_dn"], CAL.machine.channel.gain_dn)
    with h5py.File(saved["h5"]) as file:
        assert json.loads(file.attrs["header"]) == json.loads(json.dumps(CAL.header()))
        assert {name: file[name].attrs["unit"] for name in UNITS} == UNITS
        assert np.array_equal(file["registration/slm/found_px"], CAL.registrations["slm"].found_px)
        assert file["registration/slm"].attrs["model"] == "affine"


def test_equal_content_has_an_equal_id():
    assert calibration().id == CAL.id
    assert calibration(registrations={}).id == CAL.id
    assert CAL.id.startswith("cal-")
    assert len(CAL.id) == 20


def one_changed():
    channel, machine = CAL.machine.channel, CAL.machine
    for name in ("gain_dn", "gain_stderr_dn", "offset_dn", "offset_stderr_dn", "crosstalk", "bleed", "bleed_stderr"):
        changed = getattr(channel, name).copy()
        changed.flat[-1] = np.nextafter(changed.flat[-1], 2)
        yield name, calibration(machine=replace(machine, channel=replace(channel, **{name: changed})))
    noise = replace(channel.noise, shot_dn=0.300001)
    yield "noise", calibration(machine=replace(machine, channel=replace(channel, noise=noise)))
    lut = replace(machine.slm, stderr=machine.slm.stderr + 1e-9)
    yield "lut", calibration(machine=replace(machine, slm=lut))
    yield "swapped luts", calibration(machine=replace(machine, slm=machine.display, display=machine.slm))
    yield "layout", calibration(machine=replace(machine, layout=replace(machine.layout, active_rows_px=3)))
    yield "domain", calibration(domain=replace(CAL.domain, exposure_s=0.0041))
    yield "valid_until", calibration(valid_until="2026-11-25T02:00:00Z")
    yield "parent", calibration(parent=None)
    yield "evidence", calibration(evidence=Findings())
    yield "provenance", calibration(provenance={**CAL.provenance, "bench": "other"})


def test_one_changed_number_is_another_id():
    ids = {name: c.id for name, c in one_changed()}
    assert len(set(ids.values()) | {CAL.id}) == len(ids) + 1


def refused(path, match=None):
    with pytest.raises(ArtefactError, match=match) as caught:
        load(path)
    assert str(path) == caught.value.device
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("form", FORMS)
def test_a_missing_file_is_named(tmp_path, form):
    refused(tmp_path / f"cal-none.calib.{form}", "cal-none.* does not exist")


@pytest.mark.parametrize("form", FORMS)
def test_a_truncated_file_is_refused(saved, form):
    whole = saved[form].read_bytes()
    for part in (0, 1, 7, 100, 0.3, 0.9, len(whole) - 1):
        saved[form].write_bytes(whole[: int(part * len(whole)) if isinstance(part, float) else part])
        refused(saved[form])


@pytest.mark.parametrize("form", FORMS)
def test_no_flipped_bit_changes_what_is_loaded(saved, form):
    """In bytes that carry content a flip is refused; in padding and unused metadata it does no harm."""
    whole = saved[form].read_bytes()
    rng = np.random.default_rng(4)
    found = {True: 0, False: 0}
    for at in np.unique(np.concatenate([rng.integers(0, len(whole), 150), np.arange(0, 600, 4)])):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << int(rng.integers(8))
        saved[form].write_bytes(damaged)
        try:
            again = load(saved[form])
        except ArtefactError:
            found[True] += 1
        else:
            assert again.header() == CAL.header()
            assert all(np.array_equal(arrays(again)[n], a) for n, a in arrays(CAL).items())
            found[False] += 1
    assert found[True] > 60


@pytest.mark.parametrize("form", FORMS)
def test_a_flipped_bit_in_an_array_is_refused(saved, form):
    whole = saved[form].read_bytes()
    at = whole.index(CAL.machine.channel.gain_dn.tobytes())
    saved[form].write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    refused(saved[form], "altered")


def rewrite(path, change_header=None, change_arrays=None):
    """The same file with another header or other arrays, well-formed."""
    header, tensors = json.loads(json.dumps(CAL.header())), arrays(CAL)
    if change_header:
        header = change_header(header)
    if change_arrays:
        change_arrays(tensors)
    if path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file.attrs["header"] = json.dumps(header)
            for name, array in tensors.items():
                file[name] = array
    else:
        save_file(tensors, path, {"calibration": json.dumps(header)})


@pytest.mark.parametrize("form", FORMS)
def test_a_file_written_by_others_is_loaded(saved, form):
    rewrite(saved[form])
    assert load(saved[form]).id == CAL.id


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("other", ["labctl.calibration/2", None, 7])
def test_another_schema_is_refused(saved, form, other):
    rewrite(saved[form], lambda h: {**h, "schema": other})
    error = refused(saved[form], "another schema")
    assert error.expected == SCHEMA
    assert error.seen == str(other)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", sorted(UNITS))
def test_a_missing_array_is_named(saved, form, name):
    rewrite(saved[form], None, lambda a: a.pop(name))
    assert refused(saved[form], "missing").seen == name


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_array_with_a_number_that_is_none_is_named(saved, form, bad):
    def spoil(a):
        a["crosstalk"] = a["crosstalk"].copy()
        a["crosstalk"][1, 1] = bad

    rewrite(saved[form], None, spoil)
    assert refused(saved[form]).seen == "crosstalk"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "change",
    [
        lambda h: [h],
        lambda h: "text",
        lambda h: {k: v for k, v in h.items() if k != "layout"},
        lambda h: {k: v for k, v in h.items() if k != "parent"},
        lambda h: {**h, "layout": {**h["layout"], "rows": 6}},
        lambda h: {**h, "layout": {**h["layout"], "colour": 6}},
        lambda h: {**h, "layout": None},
        lambda h: {**h, "domain": []},
        lambda h: {**h, "evidence": 3},
        lambda h: {**h, "encoding": "ternary"},
        lambda h: {**h, "encoding": "offset"},
        lambda h: {**h, "acquired": "2026-11-23T02:00:01Z"},
        lambda h: {**h, "id": "cal-0000000000000000"},
        lambda h: {k: v for k, v in h.items() if k != "id"},
    ],
)
def test_a_header_that_was_altered_is_refused(saved, form, change):
    rewrite(saved[form], change)
    refused(saved[form])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["noise", "gain_dn", "display_transmission", "crosstalk", "noise_stderr"])
def test_an_array_of_another_shape_is_refused(saved, form, name):
    def cut(a):
        a[name] = np.ascontiguousarray(a[name][:-1])

    rewrite(saved[form], None, cut)
    refused(saved[form])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["still_light_dn", "coupling_shares"])
def test_a_part_of_the_couplings_is_no_calibration(saved, form, name):
    def add(a):
        a[name] = np.zeros((4, *a["gain_dn"].shape) if name == "coupling_shares" else a["gain_dn"].shape)

    rewrite(saved[form], None, add)
    assert "dark_response_dn" in refused(saved[form], "arrays are missing").seen


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("content", [b"", b"not a calibration", b"\x89HDF\r\n\x1a\n" + b"\0" * 100])
def test_a_file_of_another_kind_is_refused(tmp_path, form, content):
    path = tmp_path / f"x.calib.{form}"
    path.write_bytes(content)
    refused(path, "cannot be read")


def test_files_of_others_without_our_header_are_refused(tmp_path):
    save_file({"gain_dn": np.ones(3)}, tmp_path / "a.calib.safetensors")
    refused(tmp_path / "a.calib.safetensors")
    with h5py.File(tmp_path / "a.calib.h5", "w") as file:
        file["gain_dn"] = np.ones(3)
    refused(tmp_path / "a.calib.h5")


def only_json(value):
    if isinstance(value, dict):
        return all(type(k) is str and only_json(v) for k, v in value.items())
    if isinstance(value, list):
        return all(only_json(v) for v in value)
    return value is None or type(value) in (str, int, float, bool)


def test_the_header_holds_json_types_only():
    assert only_json(CAL.header())
    assert json.loads(json.dumps(CAL.header(), allow_nan=False)) == CAL.header()


@pytest.fixture(scope="module")
def validator():
    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_headers_validate_against_the_schema(validator):
    validator.validate(CAL.header())
    validator.validate(calibration(parent=None, machine=bench((5, 6)).machine("offset")).header())


@pytest.mark.parametrize("section", [None, "layout", "domain", "units"])
def test_a_header_with_a_missing_or_an_extra_field_does_not_validate(validator, section):
    def part(header):
        return header if section is None else header[section]

    for name in part(CAL.header()):
        header = copy.deepcopy(CAL.header())
        del part(header)[name]
        assert not validator.is_valid(header), f"without {name}"
    header = copy.deepcopy(CAL.header())
    part(header)["extra"] = 1
    assert not validator.is_valid(header)


@pytest.mark.parametrize(
    "change",
    [
        {"id": "cal-12"},
        {"schema": "labctl.calibration/2"},
        {"parent": 3},
        {"acquired": "yesterday"},
        {"encoding": "ternary"},
        {"domain": {**CAL.header()["domain"], "exposure_s": -1}},
        {"domain": {**CAL.header()["domain"], "quantum_efficiency": 1.2}},
        {"layout": {**CAL.header()["layout"], "rows": 0}},
        {"layout": {**CAL.header()["layout"], "panel_shape": [1]}},
    ],
)
def test_a_header_with_a_wrong_value_does_not_validate(validator, change):
    assert not validator.is_valid({**CAL.header(), **change})


def test_every_field_of_the_schema_is_described(validator):
    def described(node):
        return all("description" in p and described(p) for p in node.get("properties", {}).values())

    assert described(validator.schema)
    assert set(validator.schema["properties"]["units"]["properties"]) == set(UNITS)


def same(one, other):
    """Whether two calibrations are the same in everything that a file holds."""
    if one.header() != other.header() or one.registrations.keys() != other.registrations.keys():
        return False
    pairs = [(one.registrations[panel], other.registrations[panel]) for panel in one.registrations]
    return all(
        (a.model, a.p_value, a.lens) == (b.model, b.p_value, b.lens)
        and all(np.array_equal(getattr(a, n), getattr(b, n)) for n in ("panel_to_camera", "points_px", "found_px"))
        and np.array_equal(a.residual_px, b.residual_px)
        for a, b in pairs
    )


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_no_flipped_bit_goes_unseen(saved, form):
    path, rng = saved[form], np.random.default_rng(14)
    raw = path.read_bytes()
    whole = load(path)
    refusals = 0
    for place in rng.integers(0, len(raw) * 8, 300):
        flipped = bytearray(raw)
        flipped[place // 8] ^= 1 << (place % 8)
        path.write_bytes(flipped)
        try:
            found = load(path)
        except ArtefactError:
            refusals += 1
        else:
            assert same(found, whole), f"bit {place}"
    assert refusals > 100


def test_a_registration_that_was_altered_is_refused(saved):
    with h5py.File(saved["h5"], "r+") as file:
        file["registration/slm/found_px"][0, 0] += 0.5
    refused(saved["h5"], "registrations cannot be read")


def test_a_file_of_the_version_before_has_no_hash_of_its_registrations(saved):
    with h5py.File(saved["h5"], "r+") as file:
        del file.attrs["registrations_sha256"]
    assert same(load(saved["h5"]), CAL)


@pytest.mark.parametrize("name", ["more", "registration/slm/more"])
def test_a_dataset_that_does_not_belong_there_is_refused(saved, name):
    with h5py.File(saved["h5"], "r+") as file:
        file.create_dataset(name, data=np.zeros(3)).attrs["unit"] = "1"
    refused(saved["h5"])


def test_a_unit_that_was_altered_is_refused(saved):
    with h5py.File(saved["h5"], "r+") as file:
        file["gain_dn"].attrs["unit"] = "mDN"
    refused(saved["h5"], "units were altered")


@pytest.mark.parametrize("form", FORMS)
def test_a_header_key_that_does_not_belong_there_is_refused(saved, form):
    rewrite(saved[form], lambda h: {**h, "colour": "red"})
    refused(saved[form], "what does not belong there")


@pytest.mark.parametrize("form", FORMS)
def test_a_pipe_is_no_calibration(tmp_path, form):
    path = tmp_path / f"cal-0.calib.{form}"
    os.mkfifo(path)
    assert "pipe" in refused(path).seen


def test_numbers_in_another_file_are_not_read(saved, tmp_path):
    (tmp_path / "other.raw").write_bytes(np.ones(30).tobytes())
    with h5py.File(saved["h5"], "r+") as file:
        shape = file["gain_dn"].shape
        del file["gain_dn"]
        data = file.create_dataset("gain_dn", shape, "f8", external=[(str(tmp_path / "other.raw"), 0, 240)])
        data.attrs["unit"] = "DN"
    assert "another file" in refused(saved["h5"]).seen
