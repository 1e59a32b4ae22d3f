"""What ``labctl doctor`` sees, on computers made up in a folder and in states that runs have left."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from labctl.archive import RunWriter
from labctl.bench.lock import hold_bench
from labctl.bench.marks import write_mark
from labctl.doctor import computer, lab, wires
from labctl.doctor.check import Check, Finding, State, Surroundings, examine
from labctl.doctor.checks import CHECKS
from labctl.locks import BenchFiles
from labctl.osal import process_lives
from labctl.station.loading import LoadedStation, load_station
from labctl.verdicts import Verdict

linux = pytest.mark.skipif(sys.platform != "linux", reason="what Linux writes into /proc and /sys")


def station_with(**devices: str) -> LoadedStation:
    return load_station(overrides=[f"devices.{name}.backend={backend}" for name, backend in devices.items()])


def around(tmp_path: Path, station: LoadedStation | None = None, files: dict[str, str] | None = None) -> Surroundings:
    """A computer that has these files below its root."""
    root = tmp_path / "root"
    for path, text in (files or {}).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return Surroundings(station or load_station(), tmp_path / "runs", root=root)


def states(findings: Any) -> list[str]:
    return [str(finding.state) for finding in findings]


def test_doctor_on_the_mock_fails_nothing_and_gives_each_fault_one_fix(labctl: Any, acme: Path) -> None:
    code, out, _ = labctl("doctor", "--json")
    document = json.loads(out)
    assert code == 0, [row for row in document["checks"] if row["state"] == "FAIL"]
    assert {row["check"] for row in document["checks"]} >= {"python", "packages", "disk", "writing", "station", "runs"}
    assert all(bool(row["fix"]) == (row["state"] != "PASS") for row in document["checks"])
    assert list(Path().iterdir()) == []


def test_doctor_exits_as_for_a_bench_out_of_spec_when_something_fails(labctl: Any, acme: Path) -> None:
    Path("bench.toml").write_text('[devices.camera]\nbackend = "acme.needy"\n')
    code, out, _ = labctl("doctor", "--bench", "bench.toml")
    assert code == 10
    assert "FAIL" in out
    assert "try: pip install acme-sdk" in out
    assert "1 to mend" in out
    code, out, _ = labctl("doctor", "--bench", "nowhere.toml")
    assert code == 10
    assert "no such station" in out


def test_report_holds_names_of_the_environment_and_no_values(
    labctl: Any, acme: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_PASSWORD", "open-sesame")
    Path("bench.toml").write_text('[devices.camera]\nbackend = "acme.camera"\noptions = {serial = "token-77"}\n')
    for name in ("report.json", "report.txt"):
        assert labctl("doctor", "--bench", "bench.toml", "--report", name)[0] == 0
        text = Path(name).read_text()
        assert "LAB_PASSWORD" in text
        assert "open-sesame" not in text
        assert "token-77" not in text
    document = json.loads(Path("report.json").read_text())
    assert document["schema"] == "labctl.doctor/1"
    assert document["packages"]["numpy"] == metadata.version("numpy")
    assert document["station"]["camera"] == {"role": "camera", "backend": "acme.camera"}


def test_check_that_fails_itself_is_a_warning_and_stops_no_other(tmp_path: Path) -> None:
    def breaks(_: Surroundings) -> list[Finding]:
        raise RuntimeError("no idea")

    rows = examine([Check("a", breaks), Check("b", lambda _: [Finding(State.PASS, "well")])], around(tmp_path))
    assert [(row.check, row.state) for row in rows] == [("a", State.WARN), ("b", State.PASS)]
    assert "RuntimeError: no idea" in rows[0].detail


def test_every_check_is_a_function_of_its_own_with_a_name_of_its_own() -> None:
    assert len({check.name for check in CHECKS}) == len({check.look for check in CHECKS}) == len(CHECKS)


@pytest.mark.parametrize(("free_gb", "state"), [(0.4, "FAIL"), (0.6, "WARN"), (5, "WARN"), (500, "PASS")])
def test_room_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_gb: float, state: str) -> None:
    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(int(free_gb * 1e9)))
    assert states(computer.disk(around(tmp_path))) == [state]


@linux
@pytest.mark.parametrize(("kind", "state"), [("ext4", "PASS"), ("nfs4", "WARN"), ("tmpfs", "WARN")])
def test_disk_over_the_network_or_in_memory_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, state: str
) -> None:
    monkeypatch.setattr(computer, "GB_WARN", 0.0)
    monkeypatch.setattr(computer, "GB_FAIL", 0.0)
    mounts = f"/dev/sda1 / ext4 rw 0 0\nserver:/x {tmp_path.parent} {kind} rw 0 0\nserver:/y {tmp_path}/r nfs rw 0 0\n"
    (finding,) = computer.disk(around(tmp_path, files={"proc/self/mounts": mounts}))
    assert (str(finding.state), f"({kind})" in finding.detail) == (state, True)


def test_folder_that_cannot_be_written_fails(tmp_path: Path, mount: Callable[[str], Path]) -> None:
    here = around(tmp_path)
    folder = mount("ro")
    found = list(computer.writing(Surroundings(here.station, folder / "runs")))
    assert states(found) == ["FAIL", "PASS"]
    assert "Read-only file system" in found[0].detail


def test_package_beyond_the_cap_is_named_with_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "99.0" if name == "torch" else installed(name))
    (finding,) = computer.packages(around(tmp_path))
    assert finding.state is State.FAIL
    assert finding.detail.startswith("torch 99.0; labctl needs torch")
    assert finding.fix.startswith('python -m pip install "torch')


def test_extras_are_not_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = metadata.version

    def version(name: str) -> str:
        if name in ("pypylon", "dask"):
            raise metadata.PackageNotFoundError
        return installed(name)

    monkeypatch.setattr(metadata, "version", version)
    assert states(computer.packages(around(tmp_path))) == ["PASS"]


@linux
@pytest.mark.parametrize(
    ("camera", "mb", "state"),
    [("genicam.usb3", "16", "WARN"), ("genicam.usb3", "1000", "PASS"), ("genicam.usb3", "0", "PASS"),
     ("mock.camera", "16", "PASS")],
)  # fmt: skip
def test_memory_of_usb_matters_to_a_camera_on_usb(tmp_path: Path, camera: str, mb: str, state: str) -> None:
    files = {"sys/module/usbcore/parameters/usbfs_memory_mb": f"{mb}\n"}
    assert states(wires.usb_memory(around(tmp_path, station_with(camera=camera), files))) == [state]


@linux
def test_small_buffers_and_packets_matter_to_a_camera_on_ethernet(tmp_path: Path) -> None:
    files = {"proc/sys/net/core/rmem_max": "212992\n"}
    for name, mtu, kind in (("enp3s0", "1500", "1"), ("enp4s0", "9000", "1"), ("lo", "65536", "772")):
        files |= {f"sys/class/net/{name}/{key}": value for key, value in
                  (("mtu", mtu), ("type", kind), ("operstate", "up"), ("device/vendor", "x"))}  # fmt: skip
    found = list(wires.ethernet(around(tmp_path, station_with(camera="genicam.gige"), files)))
    assert states(found) == ["WARN", "WARN"]
    assert "rmem_max=10000000" in found[0].fix
    assert "enp3s0 (1500)" in found[1].detail
    assert "enp4s0" not in found[1].detail
    assert states(wires.ethernet(around(tmp_path, None, files))) == ["PASS"]


@linux
def test_serial_port_that_this_user_may_not_open_names_its_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = around(tmp_path, files={"dev/ttyUSB0": "", "dev/ttyS0": ""})
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    (finding,) = wires.serial_ports(here)
    assert finding.state is State.WARN
    assert "ttyUSB0" in finding.detail
    assert "ttyS0" not in finding.detail
    assert finding.fix.startswith("sudo usermod -aG ")


@linux
@pytest.mark.parametrize(
    ("slm", "variables", "state"),
    [("screen", {}, "FAIL"), ("screen", {"DISPLAY": ":0"}, "PASS"), ("screen", {"WAYLAND_DISPLAY": "w"}, "WARN"),
     ("mock.slm", {}, "PASS")],
)  # fmt: skip
def test_panel_that_is_shown_full_screen_needs_a_display(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slm: str, variables: dict[str, str], state: str
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "XDG_SESSION_TYPE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert states(computer.display(around(tmp_path, station_with(slm=slm)))) == [state]


@pytest.mark.usefixtures("acme")
def test_backend_that_warns_and_one_that_no_device_has_answered_are_named(tmp_path: Path) -> None:
    found = list(lab.backends(around(tmp_path, station_with(source="acme.source", camera="acme.needy"))))
    details = [finding.detail for finding in found if finding.state is State.WARN]
    assert "source: the laser needs ten minutes to warm up" in details
    assert any(detail.startswith("camera: no device has ever answered") for detail in details)
    assert any(detail == "do not import: acme.gone" for detail in details)


def test_bench_whose_holder_was_killed_is_a_warning(tmp_path: Path) -> None:
    here = around(tmp_path)
    assert states(lab.held(here)) == ["PASS"]
    with hold_bench("mock") as held_by:
        held_by("20260101T000000Z-mock-k7f2")
        (finding,) = lab.held(here)
        assert finding.state is State.PASS
        assert "in use by 20260101T000000Z-mock-k7f2" in finding.detail
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    BenchFiles("mock").note.write_text(json.dumps({"who": "x-k7f2", "process": dead.pid}))
    (finding,) = lab.held(here)
    BenchFiles("mock").note.unlink()
    assert finding.state is State.WARN
    assert "x-k7f2 held the bench mock and was killed" in finding.detail


def test_bench_that_was_left_open_fails(tmp_path: Path) -> None:
    here = around(tmp_path)
    write_mark(load_station().station)
    findings = lab.held(here)
    assert next(findings).state is State.FAIL
    BenchFiles("mock").mark.unlink()
    assert states(lab.held(here)) == ["PASS"]


def test_run_after_which_the_bench_is_not_known_to_be_safe_fails_until_one_ends_well(
    tmp_path: Path, new_run: Callable[[], RunWriter]
) -> None:
    here = around(tmp_path)
    assert states(lab.left_behind(here)) == ["PASS"]
    run = new_run()
    run.journal("stalled", reason="no progress", safe=False)
    run.finish(Verdict.FAULT, None, 20)
    run.close()
    assert states(lab.left_behind(here)) == ["FAIL"]
    time.sleep(1.1)  # runs are ordered by the second in which they begin
    well = new_run()
    well.finish(Verdict.OK, None, 0)
    well.close()
    assert states(lab.left_behind(here)) == ["PASS"]


def test_run_that_was_killed_is_a_warning(tmp_path: Path, new_run: Callable[[], RunWriter]) -> None:
    new_run().close()
    (finding,) = lab.left_behind(around(tmp_path))
    assert finding.state is State.WARN
    assert "labctl run resume" in finding.fix


def test_process_that_lives_and_one_that_is_gone() -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    assert process_lives(os.getpid())
    assert not process_lives(dead.pid)
