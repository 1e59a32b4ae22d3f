"""Backends are found by name, imported when used, and listed as broken with the reason."""

import subprocess
import sys

import pytest

from drivers.errors import BrokenBackend, CapabilityError, NotConnected, UnknownBackend
from drivers.protocols import OpenContext
from drivers.registry import available, open_device

PLUGIN = """
def good(name, options, context):
    return (name, dict(options))

def unplugged(name, options, context):
    raise OSError("no such port /dev/ttyUSB7")

constant = 3
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A real distribution with four backends, two of them broken."""
    (tmp_path / "labctl_acme.py").write_text(PLUGIN)
    info = tmp_path / "labctl_acme-2.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: labctl-acme\nVersion: 2.5\n")
    (info / "entry_points.txt").write_text(
        "[labctl.drivers]\n"
        "acme.good = labctl_acme:good\n"
        "acme.unplugged = labctl_acme:unplugged\n"
        "acme.constant = labctl_acme:constant\n"
        "acme.vendor = labctl_acme_vendor_sdk:open\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("labctl_acme", None)


def test_mock_backends_are_installed():
    assert {"mock.slm", "mock.display", "mock.camera", "mock.source"} <= {info.name for info in available()}


@pytest.mark.usefixtures("plugin")
def test_listing_names_target_and_distribution_and_imports_nothing():
    info = next(info for info in available() if info.name == "acme.good")
    assert (info.target, info.distribution, info.broken) == ("labctl_acme:good", "labctl-acme 2.5", None)
    assert "labctl_acme" not in sys.modules


@pytest.mark.usefixtures("plugin")
def test_probe_lists_broken_backends_with_the_reason():
    broken = {info.name: info.broken for info in available(probe=True)}
    assert broken["acme.good"] is None
    assert broken["acme.unplugged"] is None
    assert "No module named 'labctl_acme_vendor_sdk'" in broken["acme.vendor"]
    assert "not callable" in broken["acme.constant"]


@pytest.mark.usefixtures("plugin")
def test_backend_gets_name_and_options():
    assert open_device("acme.good", "slm", {"port": 3}, OpenContext()) == ("slm", {"port": 3})


def test_unknown_backend_suggests_the_nearest_name():
    with pytest.raises(UnknownBackend) as error:
        open_device("mock.camra", "camera", {}, OpenContext())
    assert "mock.camera" in error.value.hint
    assert error.value.exit_code == 2


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize("backend", ["acme.vendor", "acme.constant"])
def test_broken_backend_says_why(backend):
    with pytest.raises(BrokenBackend, match=r"vendor_sdk|not callable") as error:
        open_device(backend, "slm", {}, OpenContext())
    assert "labctl-acme 2.5" in error.value.hint


@pytest.mark.usefixtures("plugin")
def test_device_that_is_not_there_is_not_connected():
    with pytest.raises(NotConnected, match="ttyUSB7") as error:
        open_device("acme.unplugged", "stage", {}, OpenContext())
    assert error.value.device == "stage"


def test_errors_of_the_backend_pass_unchanged():
    with pytest.raises(CapabilityError):
        open_device("mock.slm", "slm", {"colour": "red"}, OpenContext())


def test_listing_imports_no_backend():
    code = (
        "import sys; from drivers.registry import available; available(); "
        "sys.exit(any(name.split('.')[0] in ('mock_hardware', 'cv2', 'scipy') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
