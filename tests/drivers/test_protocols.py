"""Roles and capabilities are asked for without a word to the instrument."""

import pytest

import drivers
from drivers import (
    Camera,
    Interlock,
    Modulator,
    OpenContext,
    SequencePanel,
    Simulated,
    TriggeredCamera,
    can,
    is_a,
    open_device,
)
from drivers.protocols import members


class Silent:
    """A camera the properties of which would talk to an instrument that hangs."""

    def __init__(self):
        self.name, self.shape, self.bit_depth = "camera", (4, 4), 8

    def _talk(self):
        raise AssertionError("the instrument was asked")

    exposure_s = roi = frame_period_s = property(_talk)
    __enter__ = __exit__ = close = identify = snapshot = safe_state = arm = fetch = stop = _talk


def test_asking_for_a_role_reads_no_property():
    assert is_a(Silent(), Camera)
    assert not is_a(Silent(), Modulator)
    assert not can(Silent(), TriggeredCamera)


def test_isinstance_is_refused_because_it_reads_properties():
    with pytest.raises(TypeError):
        isinstance(Silent(), Camera)


def test_member_that_is_missing_is_seen_wherever_it_would_come_from():
    camera = Silent()
    del camera.bit_depth
    assert not is_a(camera, Camera)


def test_capability_includes_its_role():
    assert members(Modulator) < members(SequencePanel)
    assert members(Camera) < members(TriggeredCamera)


@pytest.mark.parametrize(
    ("backend", "roles", "capabilities"),
    [
        ("mock.slm", {Modulator}, {SequencePanel}),
        ("mock.camera", {Camera}, {TriggeredCamera, Simulated}),
        ("mock.interlock", {Interlock}, set()),
    ],
)
def test_mock_devices_have_their_roles_and_capabilities(backend, roles, capabilities):
    with open_device(backend, "device", {}, OpenContext()) as device:
        assert {role for role in (Modulator, Camera, Interlock) if is_a(device, role)} == roles
        assert {what for what in (SequencePanel, TriggeredCamera, Simulated) if can(device, what)} == capabilities


def test_every_public_name_is_there():
    assert all(hasattr(drivers, name) for name in drivers.__all__)
    assert drivers.__all__ == sorted(
        drivers.__all__, key=lambda name: (not name.isupper(), not name[0].isupper(), name)
    )
