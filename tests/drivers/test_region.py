"""Two regions of one panel are two modulators, and the panel shows both."""

import threading

import numpy as np
import pytest

from drivers import CapabilityError, DeviceTimeout, OpenContext, RoleError, SequencePanel, can, open_device
from drivers.modulators import Region
from drivers.modulators.region import SplitPanel
from drivers.protocols import Roi
from drivers.resources import Resources

PANEL = {"rows": 96, "cols": 128}


@pytest.fixture
def context():
    return OpenContext({"mock": {"slm": PANEL, "display": PANEL}})


def region(context, x, width=64, name="half"):
    return open_device("region", name, {"panel": "mock.slm", "x": x, "y": 0, "width": width, "height": 96}, context)


def whole(device):
    """What the panel below a region shows last."""
    bench = device._split.panel.bench
    return bench.slm._history[-1][1].levels


def test_each_region_leaves_the_other_as_it_is(context):
    with region(context, 0) as left, region(context, 64) as right:
        left.show(np.full((96, 64), 7, np.uint8))
        right.show(np.full((96, 64), 9, np.uint16))
        assert np.all(whole(left)[:, :64] == 7)
        assert np.all(whole(left)[:, 64:] == 9)
        left.blank()
        assert np.all(whole(left)[:, :64] == 0)
        assert np.all(whole(left)[:, 64:] == 9)


def test_regions_that_are_shown_at_once_from_two_threads_both_stay_on_the_panel(context):
    with region(context, 0) as left, region(context, 64) as right:
        panel = left._split.panel
        show, entered, others = panel.show, threading.Event(), []

        def show_slowly(levels, timeout_s):
            """The first frame takes so long that the other region's comes in between, where nothing keeps it out."""
            panel.show = lambda *rest: entered.set() or show(*rest)
            others.append(threading.Thread(target=right.show, args=(np.full((96, 64), 9, np.uint8), 60.0)))
            others[0].start()
            entered.wait(0.3)
            return show(levels, timeout_s)

        panel.show = show_slowly
        left.show(np.full((96, 64), 7, np.uint8))
        others[0].join()
        assert np.all(whole(left)[:, :64] == 7)
        assert np.all(whole(left)[:, 64:] == 9)


def test_region_whose_panel_is_busy_with_the_other_is_told_so_in_time(context):
    with region(context, 0) as left, region(context, 64) as right:
        with left._split._turn, pytest.raises(DeviceTimeout, match="busy with its other region") as late:
            right.show(np.full((96, 64), 9, np.uint8), timeout_s=0.05)
        assert late.value.device == right.name
        assert not whole(left).any()


def test_each_region_counts_its_own_frames(context):
    with region(context, 0) as left, region(context, 64) as right:
        assert [left.blank().frame_id for _ in range(3)] == [1, 2, 3]
        assert right.blank().frame_id == 1


def test_panel_is_opened_by_the_first_and_closed_by_the_last(context):
    left, right = region(context, 0), region(context, 64)
    panel = right._split.panel
    assert left._split.panel is panel
    left.close()
    assert panel.identify()
    right.close()
    assert context.resources.held() == ()


def test_overlap_is_refused_until_the_other_is_closed(context):
    left = region(context, 0, name="left")
    with pytest.raises(CapabilityError, match="overlaps that of left"):
        region(context, 63)
    left.close()
    region(context, 63).close()
    assert context.resources.held() == ()


def test_region_off_the_panel_is_refused(context):
    with pytest.raises(CapabilityError, match="not on the panel"):
        region(context, 65)
    assert context.resources.held() == ()


def test_region_of_something_else_than_a_panel_is_refused(context):
    options = {"panel": "mock.camera", "x": 0, "y": 0, "width": 4, "height": 4}
    with pytest.raises(RoleError):
        open_device("region", "half", options, context)
    assert context.resources.held() == ()


def test_list_plays_on_one_region_while_the_other_stays(context):
    with region(context, 0) as left, region(context, 64) as right, open_device("mock.camera", "c", {}, context) as c:
        right.show(np.full((96, 64), 5, np.uint8))
        c.roi = Roi(0, 0, 8, 8)
        c.arm_sequence(3, 2)
        left.show_sequence([np.full((96, 64), level, np.uint8) for level in (1, 2, 3)], 2)
        c.fetch(10.0)
        assert np.all(whole(left)[:, :64] == 3)
        assert np.all(whole(left)[:, 64:] == 5)


def test_region_of_a_panel_without_lists_has_none():
    class Plain:
        shape, levels, settle_s, refresh_hz = (4, 4), 4096, 0.01, 60.0

    hold = Resources().share("panel", lambda: SplitPanel(Plain()), lambda split: None)
    assert not can(Region("half", hold, Roi(0, 0, 2, 2)), SequencePanel)
    assert hold.value._frame.dtype == np.uint16


def test_a_region_is_verified_by_the_whole_panel_where_that_can_tell(context, monkeypatch):
    with region(context, 0) as device:
        device.verify()
        panel = type(device._split.panel)
        asked = []
        monkeypatch.setattr(panel, "verify", lambda panel, timeout_s: asked.append(timeout_s), raising=False)
        device.verify(2.0)
        assert asked == [2.0]
