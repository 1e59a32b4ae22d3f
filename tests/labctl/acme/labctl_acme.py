"""Backends of a vendor that does everything: some work, some crash, hang, print, lie, or break the contract."""

import os
import signal
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from drivers import (
    AcquireLogic,
    Backend,
    Checked,
    DeviceLost,
    Family,
    Found,
    Identity,
    MonoPixels,
    NoOptions,
    Ok,
    Proof,
    Reading,
    ShowReceipt,
    StreamingCamera,
    Trip,
    checks,
    option,
)
from drivers.testing.fakes import FreeRunningFake


@dataclass(frozen=True)
class CameraOptions(Checked):
    serial: str
    exposure_s: float = option(0, 1, 0.002)


@dataclass(frozen=True)
class SourceOptions(Checked):
    log: str = ""
    tripped: str = ""


class Simple:
    """What the devices here have in common."""

    model = "thing"

    def __init__(self, name):
        self.name, self.closed = name, False

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        self.closed = True

    def identify(self):
        self.there()
        return Identity("Acme", self.model, "7")

    def snapshot(self, timeout_s=5.0):
        return {"model": self.model}

    def safe_state(self, timeout_s=5.0):
        pass

    def there(self):
        if self.closed:
            raise DeviceLost(f"{self.name} is closed", device=self.name)


class Panel(Simple):
    model, shape, levels, settle_s, refresh_hz = "Panel", (48, 64), 256, 0.01, 60.0

    def __init__(self, name, log=""):
        super().__init__(name)
        self.frame_id, self.log = 0, log

    def show(self, levels, timeout_s=2.0):
        self.there()
        levels = checks.levels_shown(self.name, levels, self.shape, self.levels)
        self.frame_id += 1
        if self.log:
            with Path(self.log).open("a") as log:
                log.write(f"{int(levels.min())}-{int(levels.max())}\n")
        return ShowReceipt(self.frame_id, time.monotonic())

    def blank(self, timeout_s=2.0):
        return self.show(np.zeros(self.shape, np.uint8), timeout_s)


class DeafPanel(Panel):
    """Takes whatever it is given, and hangs at a list of unsigned integers of 64 bits."""

    def show(self, levels, timeout_s=2.0):
        self.frame_id += 1
        if levels.dtype == np.uint64:
            time.sleep(3600)
        return ShowReceipt(self.frame_id, time.monotonic())


class FatalPanel(Panel):
    """Takes its process with it when it is closed for the second time."""

    def close(self):
        if self.closed:
            os.kill(os.getpid(), signal.SIGSEGV)
        super().close()


class Source(Simple):
    model = "Laser"

    def __init__(self, name, options):
        super().__init__(name)
        self.is_on, self.log = False, options.log

    def on(self, timeout_s=5.0):
        self.there()
        self.is_on = True
        if self.log:
            with Path(self.log).open("a") as log:
                log.write("on\n")

    def off(self, timeout_s=5.0):
        self.there()
        self.is_on = False

    def safe_state(self, timeout_s=5.0):
        self.is_on = False


class Interlock(Simple):
    model = "Door"

    def __init__(self, name, options):
        super().__init__(name)
        self.tripped = options.tripped

    def check(self, timeout_s=2.0):
        self.there()
        return Trip(self.tripped) if self.tripped else Ok()


class Meter(Simple):
    model, unit = "Meter", "W"

    def read(self, timeout_s=2.0):
        self.there()
        return Reading(1e-3, "W", time.monotonic())


def camera(name, options, context):
    logic: AcquireLogic = FreeRunningFake()
    return StreamingCamera(name, logic, MonoPixels(12))


class Sloppy(FreeRunningFake):
    """Exposes more often than it says to anybody but the thread that takes its frames."""

    def __init__(self):
        super().__init__()
        self.mine = threading.local()

    @property
    def frame_period_s(self):
        return super().frame_period_s * (1.0 if hasattr(self.mine, "takes_frames") else 1.3)

    def next_frame(self, timeout_s):
        self.mine.takes_frames = True
        return super().next_frame(timeout_s)


def two_cameras():
    print("Acme SDK 4.2 (c) 2026, all rights reserved")
    os.write(1, b"native banner\n")
    found = Found("camera", Identity("Acme", "Eye\n2", "A1", "1.7"), {"serial": 'A"1', "exposure_s": np.float32(0.5)})
    return [replace(found, note="scaled by 125 %: cannot be used"), replace(found, options={"serial": "A2"})]


def crash():
    sys.stderr.write("acme: no such bus\n")
    sys.stderr.flush()
    os.kill(os.getpid(), signal.SIGSEGV)


def hang():
    if "ACME_HANGS" in os.environ:
        Path(os.environ["ACME_HANGS"]).touch()
    time.sleep(3600)


def lie():
    return [Found("camera", Identity("Acme", "Eye", "1"), {"serail": "1"})]


def port():
    return [Found("camera", Identity("Acme", "port", "/dev/acme0"), {"exposure_s": 0.5})]


def fails():
    raise OSError("no permission for /dev/acme0")


def not_here(name, options, context):
    raise OSError("no such port /dev/acme0")


EYES = (
    Family("Acme Eye 2", Proof.LIVE, "Acme's own server over TCP", "tests/endpoints/test_acme.py"),
    Family("Acme Eye 3, which nobody has seen", Proof.NOT_RUN),
    Family("Hamamatsu ORCA", Proof.FAKE, "a fake of its DCAM library", "tests/endpoints/test_acme.py"),
)
CAMERA = Backend("acme.camera", ("camera",), CameraOptions, camera, discover=two_cameras, families=EYES)
SLOPPY = Backend(
    "acme.sloppy",
    ("camera",),
    NoOptions,
    lambda name, options, context: StreamingCamera(name, Sloppy(), MonoPixels(12)),
)
PANEL = Backend("acme.panel", ("slm", "display"), NoOptions, lambda name, options, context: Panel(name))
LOGGED = Backend(
    "acme.logged",
    ("slm", "display"),
    SourceOptions,
    lambda name, options, context: Panel(name, options.log),
    discover=lambda: [Found("slm", Identity("Acme", "Panel", "7"))],
)
DEAF = Backend("acme.deaf", ("slm", "display"), NoOptions, lambda name, options, context: DeafPanel(name))
FATAL = Backend("acme.fatal", ("slm", "display"), NoOptions, lambda name, options, context: FatalPanel(name))
OPENS_NOT = Backend("acme.opens-not", ("slm",), NoOptions, lambda name, options, context: crash())
SOURCE = Backend(
    "acme.source",
    ("source",),
    SourceOptions,
    lambda name, options, context: Source(name, options),
    warning="the laser needs ten minutes to warm up",
)
INTERLOCK = Backend(
    "acme.interlock", ("interlock",), SourceOptions, lambda name, options, context: Interlock(name, options)
)
METER = Backend("acme.meter", ("monitor",), NoOptions, lambda name, options, context: Meter(name), discover=tuple)
CRASHES = Backend("acme.crashes", ("camera",), NoOptions, camera, discover=crash)
HANGS = Backend("acme.hangs", ("camera",), NoOptions, camera, discover=hang)
LIES = Backend("acme.lies", ("camera",), CameraOptions, camera, discover=lie)
PORT = Backend("acme.port", ("camera",), CameraOptions, camera, discover=port)
FAILS = Backend("acme.fails", ("camera",), CameraOptions, not_here, discover=fails)
NEEDY = Backend(
    "acme.needy",
    ("camera",),
    NoOptions,
    camera,
    needs=("acme_sdk",),
    install="pip install acme-sdk",
    discover=hang,
    families=(Family("Acme Eye 1", Proof.FAKE, "a fake of its SDK", "tests/endpoints/test_acme.py"),),
)
