"""Backends are found by name, imported when used, and listed as broken with the reason."""

import subprocess
import sys

import pytest

from drivers import (
    Backend,
    BrokenBackend,
    CapabilityError,
    DeviceFacts,
    NoOptions,
    NotConnected,
    OpenContext,
    OptionError,
    RoleError,
    UnknownBackend,
    available,
    check_options,
    describe,
    open_device,
    open_role,
)

PLUGIN = """
from dataclasses import dataclass
from drivers import Backend, Checked, DeviceFacts, option

@dataclass(frozen=True)
class Options(Checked):
    port: int = option(0, 65535, 1)

class Panel:
    def __init__(self, name, options):
        self.name, self.options = name, options

    def close(self):
        closed.append(self.name)

def no_port(name, options, context):
    raise OSError("no such port /dev/ttyUSB7")

def function(name, options, context):
    return Panel(name, options)

closed = []
GOOD = Backend(
    "acme.good", ("slm",), Options, function, lambda options, context: DeviceFacts((4, options.port), levels=256)
)
UNPLUGGED = Backend("acme.unplugged", ("camera",), Options, no_port)
NEEDY = Backend("acme.needy", ("camera",), Options, no_port, needs=("acme_sdk.core",), install="pip install acme-sdk")
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A real distribution with five backends, three of them broken."""
    (tmp_path / "labctl_acme.py").write_text(PLUGIN)
    info = tmp_path / "labctl_acme-2.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: labctl-acme\nVersion: 2.5\n")
    (info / "entry_points.txt").write_text(
        "[labctl.drivers]\n"
        "acme.good = labctl_acme:GOOD\n"
        "acme.unplugged = labctl_acme:UNPLUGGED\n"
        "acme.needy = labctl_acme:NEEDY\n"
        "acme.function = labctl_acme:function\n"
        "acme.vendor = labctl_acme_vendor_sdk:open\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield lambda: sys.modules["labctl_acme"]
    sys.modules.pop("labctl_acme", None)


def test_mock_backends_are_installed():
    assert {"mock.slm", "mock.display", "mock.camera", "mock.source"} <= {info.name for info in available()}


@pytest.mark.usefixtures("plugin")
def test_listing_names_target_and_distribution_and_imports_nothing():
    info = next(info for info in available() if info.name == "acme.good")
    assert (info.target, info.distribution, info.broken) == ("labctl_acme:GOOD", "labctl-acme 2.5", None)
    assert "labctl_acme" not in sys.modules


@pytest.mark.usefixtures("plugin")
def test_probe_lists_broken_backends_with_the_reason():
    broken = {info.name: info.broken for info in available(probe=True)}
    assert broken["acme.good"] is None
    assert broken["acme.unplugged"] is None
    assert "No module named 'labctl_acme_vendor_sdk'" in broken["acme.vendor"]
    assert "pip install acme-sdk" in broken["acme.needy"]
    assert "not a drivers.Backend" in broken["acme.function"]


@pytest.mark.usefixtures("plugin")
def test_probe_tells_which_roles_a_backend_can_fill():
    roles = {info.name: info.roles for info in available(probe=True)}
    assert roles["acme.good"] == ("slm",)
    assert roles["mock.slm"] == ("display", "slm")
    assert roles["acme.vendor"] == ()


@pytest.mark.usefixtures("plugin")
def test_backend_gets_name_and_typed_options():
    panel = open_device("acme.good", "slm", {"port": 3}, OpenContext())
    assert (panel.name, panel.options.port) == ("slm", 3)


@pytest.mark.usefixtures("plugin")
def test_backend_is_never_called_with_options_that_it_does_not_know():
    with pytest.raises(OptionError, match=r"devices\.slm\.prot") as error:
        open_device("acme.good", "slm", {"prot": 3}, OpenContext())
    assert (error.value.device, error.value.hint) == ("slm", "did you mean port?")


@pytest.mark.usefixtures("plugin")
def test_facts_are_told_without_opening():
    assert describe("acme.good", "slm", {"port": 9}, OpenContext()) == DeviceFacts((4, 9), levels=256)
    assert describe("acme.unplugged", "camera", {}, OpenContext()) == DeviceFacts()


def test_device_that_is_not_what_its_role_needs_is_closed_again(plugin):
    with pytest.raises(RoleError, match="no modulator") as error:
        open_role("acme.good", "slm", "left", {}, OpenContext())
    assert error.value.device == "left"
    assert error.value.seen.startswith("Panel, which lacks __enter__")
    assert "show" in error.value.seen
    assert plugin().closed == ["left"]


def test_unknown_backend_suggests_the_nearest_name():
    with pytest.raises(UnknownBackend) as error:
        open_device("mock.camra", "camera", {}, OpenContext())
    assert "mock.camera" in error.value.hint
    assert error.value.exit_code == 2


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize("backend", ["acme.vendor", "acme.function"])
def test_broken_backend_says_why(backend):
    with pytest.raises(BrokenBackend, match=r"vendor_sdk|not a drivers.Backend") as error:
        open_device(backend, "slm", {}, OpenContext())
    assert "labctl-acme 2.5" in error.value.hint


@pytest.mark.usefixtures("plugin")
def test_backend_without_what_it_needs_says_what_to_install():
    with pytest.raises(BrokenBackend, match=r"needs acme_sdk\.core") as error:
        open_device("acme.needy", "camera", {}, OpenContext())
    assert error.value.hint == "pip install acme-sdk"
    assert check_options("acme.unplugged", "camera", {"port": 4}, OpenContext()).port == 4


@pytest.mark.usefixtures("plugin")
def test_device_that_is_not_there_is_not_connected():
    with pytest.raises(NotConnected, match="ttyUSB7") as error:
        open_device("acme.unplugged", "stage", {}, OpenContext())
    assert error.value.device == "stage"


def test_errors_of_the_backend_pass_unchanged():
    with pytest.raises(CapabilityError):
        open_device("mock.slm", "slm", {"colour": "red"}, OpenContext())


def test_listing_imports_no_backend_and_no_pytest():
    code = (
        "import sys; from drivers.registry import available; available(); "
        "sys.exit(any(name.split('.')[0] in ('mock_hardware', 'cv2', 'scipy', 'pytest') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_role_that_does_not_exist_is_a_mistake_of_the_backend():
    with pytest.raises(ValueError, match="no role shutter"):
        Backend("acme.shutter", ("shutter",), NoOptions, lambda name, options, context: None)
