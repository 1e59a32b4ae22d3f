"""What devices share is opened once and closed with the last of them, whatever fails."""

import threading

import pytest

from drivers import OpenContext, Resources, open_device


class Core:
    opened = 0

    def __init__(self):
        Core.opened += 1
        self.is_open = True

    def close(self):
        self.is_open = False


@pytest.fixture(autouse=True)
def _count():
    Core.opened = 0


def test_opened_once_and_closed_last():
    resources = Resources()
    holds = [resources.share("core", Core, Core.close) for _ in range(3)]
    assert Core.opened == 1
    for hold in holds[:2]:
        hold.release()
        hold.release()  # twice is harmless
    core = holds[2].value
    assert core.is_open
    holds[2].release()
    assert not core.is_open
    assert resources.held() == ()


def test_opens_again_after_the_last_has_gone():
    resources = Resources()
    with resources.share("core", Core, Core.close):
        pass
    with resources.share("core", Core, Core.close) as hold:
        assert hold.value.is_open
    assert Core.opened == 2


def test_keys_tell_resources_apart():
    resources = Resources()
    with resources.share(("gentl", "a.cti"), Core, Core.close), resources.share(("gentl", "b.cti"), Core, Core.close):
        assert Core.opened == 2


def test_open_that_fails_leaves_nothing():
    resources = Resources()
    with pytest.raises(OSError, match="no such"):
        resources.share("core", lambda: (_ for _ in ()).throw(OSError("no such file")), Core.close)
    with resources.share("core", Core, Core.close) as hold:
        assert hold.value.is_open


def test_close_that_fails_is_told_once_and_the_resource_is_gone():
    resources = Resources()

    def broken(core):
        raise OSError("core is stuck")

    first, second = (resources.share("core", Core, broken) for _ in range(2))
    first.release()
    with pytest.raises(OSError, match="stuck"):
        second.release()
    assert resources.held() == ()
    with resources.share("core", Core, Core.close) as hold:
        assert hold.value.is_open


def test_two_threads_open_one():
    resources, barrier, values = Resources(), threading.Barrier(8), []

    def use():
        barrier.wait()
        values.append(resources.share("core", Core, Core.close).value)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Core.opened == 1
    assert len(set(map(id, values))) == 1


def test_devices_of_the_mock_share_their_bench_and_the_last_ends_it():
    context = OpenContext()
    slm, camera = (open_device(f"mock.{name}", name, {}, context) for name in ("slm", "camera"))
    assert slm.bench is camera.bench
    slm.close()
    assert context.resources.held() == ("mock",)
    camera.close()
    assert context.resources.held() == ()


def test_device_that_does_not_open_holds_nothing():
    context = OpenContext({"mock": {"slm": {"rows": 0}}})
    with pytest.raises(Exception, match="rows"):
        open_device("mock.slm", "slm", {}, context)
    assert context.resources.held() == ()
