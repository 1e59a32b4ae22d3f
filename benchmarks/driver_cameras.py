"""Cameras: frames in a second through each driver, and through a bare loop of its library.

What a case means is in its docstring; `drivers.py` runs them. Where a driver has to know how late a frame can arrive
(``latency_s``), it is told what is true of the endpoint, as a station does that has measured it.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from _compare import Pair, copied, fetched, need_module, need_program, served

from drivers import OpenContext, open_device

FULL_HD = 1080, 1920
BLOCK = 60
"""Frames that are armed at once: a second of a camera of 60 Hz."""
FEW = 20
"""The same, of sources that take their time for each frame."""

os.environ["PYLON_CAMEMU"] = "2"  # pylon looks at it once, when it is first used


def opened(backend: str, **options: Any) -> Callable[[], Any]:
    return lambda: open_device(backend, "camera", options, OpenContext())


@contextmanager
def basler(rate_hz: float | None, shape: tuple[int, int], pixel_format: str, blocks: int) -> Iterator[Pair]:
    """pylon's emulator, and a loop of ``RetrieveResult``; as fast as the emulator goes where ``rate_hz`` is None."""
    need_module("pypylon")
    from pypylon import pylon

    rows, columns = shape
    size = {"Width": columns, "Height": rows}

    def ours() -> float:
        table: dict[str, Any] = {"pixel_format": pixel_format, "serial": "0815-0000", "latency_s": 0.005}
        if rate_hz is None:
            table["features"] = {"AcquisitionFrameRateEnable": False}
        else:
            table["frame_rate_hz"] = rate_hz

        def open_camera() -> Any:
            camera = opened("basler", **table)()
            camera.roi = type(camera.roi)(0, 0, columns, rows)
            camera.exposure_s = 0.001
            return camera

        return fetched(open_camera, BLOCK, blocks)

    def bare() -> float:
        factory = pylon.TlFactory.GetInstance()
        info = next(one for one in factory.EnumerateDevices() if one.GetSerialNumber() == "0815-0000")
        camera = pylon.InstantCamera(factory.CreateDevice(info))
        camera.Open()
        camera.PixelFormat.Value = pixel_format
        for name, value in size.items():
            getattr(camera, name).Value = value
        camera.ExposureTime.Value = 1000.0
        camera.AcquisitionFrameRateEnable.Value = rate_hz is not None
        if rate_hz is not None:
            camera.AcquisitionFrameRateAbs.Value = rate_hz
        camera.MaxNumBuffer.Value = 16
        camera.StartGrabbing(pylon.GrabStrategy_OneByOne)

        def next_frame() -> Any:
            while True:
                with camera.RetrieveResult(5000, pylon.TimeoutHandling_ThrowException) as result:
                    if result.GrabSucceeded():
                        return result.Array

        try:
            return copied(next_frame, BLOCK, blocks)
        finally:
            camera.StopGrabbing()
            camera.Close()

    yield Pair(ours, bare)


@contextmanager
def micromanager(bits: int, blocks: int) -> Iterator[Pair]:
    """DemoCamera at its own size, 10 ms of exposure, and a loop of ``popNextImage``."""
    need_module("pymmcore_plus")
    need_module("mm_test_adapters")
    from pymmcore_plus import CMMCorePlus

    properties = {"PixelType": "8bit" if bits == 8 else "16bit", "BitDepth": str(bits)}

    def open_camera() -> Any:
        camera = opened(
            "micromanager.camera", library="DemoCamera", device="DCam", properties=properties, latency_s=0.005
        )()
        camera.exposure_s = 0.01
        return camera

    def bare() -> float:
        core = CMMCorePlus()
        core.loadDevice("Cam", "DemoCamera", "DCam")
        core.initializeDevice("Cam")
        core.setCameraDevice("Cam")
        for name, value in properties.items():
            core.setProperty("Cam", name, value)
        core.setExposure(10.0)
        core.startContinuousSequenceAcquisition(0)

        def next_frame() -> Any:
            while not core.getRemainingImageCount():
                time.sleep(0.5e-3)
            return core.popNextImage()

        try:
            return copied(next_frame, BLOCK, blocks)
        finally:
            core.stopSequenceAcquisition()
            core.unloadAllDevices()

    yield Pair(lambda: fetched(open_camera, BLOCK, blocks), bare)


@contextmanager
def gentl(blocks: int) -> Iterator[Pair]:
    """The virtual camera of the package genicam, 640 × 480 Mono8 at 100 Hz, and harvesters' ``fetch``."""
    need_module("harvesters")
    need_module("genicam")
    from harvesters.core import Harvester

    found = find_spec("genicam")
    assert found is not None
    producer = str(Path(next(iter(found.submodule_search_locations or ()))) / "viky.cti")

    def open_camera() -> Any:
        camera = opened("genicam.gentl", producer=producer, serial="1", frame_rate_hz=100, pixel_format="Mono8")()
        camera.roi = type(camera.roi)(0, 0, 640, 480)
        return camera

    def bare() -> float:
        harvester = Harvester()
        harvester.add_file(producer)
        harvester.update()
        acquirer = harvester.create({"serial_number": "1"})
        acquirer.num_buffers = 16
        nodes = acquirer.remote_device.node_map
        nodes.PixelFormat.value, nodes.Width.value, nodes.Height.value = "Mono8", 640, 480
        nodes.AcquisitionFrameRate.value = 100
        acquirer.start()
        held: list[Any] = []

        def next_frame() -> Any:
            while held:
                held.pop().queue()
            buffer = acquirer.fetch(timeout=5)
            held.append(buffer)
            image = buffer.payload.components[0]
            return image.data.reshape(image.height, image.width)

        try:
            return copied(next_frame, BLOCK, blocks)
        finally:
            while held:
                held.pop().queue()
            acquirer.stop()
            acquirer.destroy()
            harvester.reset()

    yield Pair(lambda: fetched(open_camera, BLOCK, blocks), bare)


def _viva_loop(camera: Any, blocks: int) -> float:
    """viva-genicam's own loop over a stream, of a camera that is set up; it is closed."""
    try:
        with camera.stream() as stream:
            return copied(lambda: stream.next_frame(5000).to_numpy(), BLOCK, blocks)
    finally:
        camera.close()


@contextmanager
def gige(blocks: int) -> Iterator[Pair]:
    """viva-genicam's fake camera over UDP, 640 × 480 Mono8 at 60 Hz, and its own loop over a stream."""
    need_module("viva_genicam")
    need_module("pytest")
    from drivers.testing import one_at_a_time

    code = """
import sys
from viva_genicam.testing import FakeGigeCamera
with FakeGigeCamera(fps=60):
    print("ready", flush=True)
    sys.stdin.read()
"""
    with one_at_a_time("udp-3956"), served(code):
        yield _gige_pair(blocks, 640, 480)


@contextmanager
def aravis(blocks: int) -> Iterator[Pair]:
    """Aravis' fake camera over UDP, 512 × 512 Mono8 at 60 Hz, and viva-genicam's own loop over a stream."""
    need_module("viva_genicam")
    need_module("pytest")
    from drivers.testing import one_at_a_time

    program = need_program("arv-fake-gv-camera-0.8")
    with one_at_a_time("udp-3956"):
        process = subprocess.Popen([program, "-i", "127.0.0.1", "-s", "LAB001"])
        try:
            yield _gige_pair(blocks, 512, 512)
        finally:
            process.kill()
            process.wait()


def _gige_pair(blocks: int, width: int, height: int) -> Pair:
    import viva_genicam as vg

    def open_camera() -> Any:
        camera = opened("genicam.gige", frame_rate_hz=60, pixel_format="Mono8", discovery_s=10, ip="127.0.0.1")()
        camera.roi = type(camera.roi)(0, 0, width, height)
        camera.exposure_s = 0.005
        return camera

    def bare() -> float:
        infos: list[Any] = []
        while not infos:
            infos = [info for info in vg.discover(300, None, True) if info.ip == "127.0.0.1"]
        camera = vg.connect_gige(infos[0])
        camera.set_enum("PixelFormat", "Mono8")
        for name, value in (("OffsetX", 0), ("OffsetY", 0), ("Width", width), ("Height", height)):
            camera.set_integer(name, value)
        names = set(camera.nodes())
        if "AcquisitionFrameRateEnable" in names:
            camera.set_bool("AcquisitionFrameRateEnable", True)
        camera.set_float("AcquisitionFrameRate", 60.0)
        camera.set_float("ExposureTime" if "ExposureTime" in names else "ExposureTimeAbs", 5000.0)
        return _viva_loop(camera, blocks)

    return Pair(lambda: fetched(open_camera, BLOCK, blocks), bare)


@contextmanager
def usb3(blocks: int) -> Iterator[Pair]:
    """viva-genicam's fake USB3 camera in this process, and its own loop over a stream."""
    need_module("viva_genicam")
    import viva_genicam as vg
    from viva_genicam.testing import FakeU3vCamera

    fake = FakeU3vCamera()
    info = SimpleNamespace(bus="1", address=4, serial="U3V-001", manufacturer="viva", model="FakeU3V", speed="")
    vg.discover_u3v, vg.connect_u3v = lambda: [info], lambda info: fake.connect()

    def bare() -> float:
        camera = fake.connect()
        for name, value in (("Width", 640), ("Height", 480)):
            camera.set_integer(name, value)
        camera.set_enum("PixelFormat", "Mono8")
        return _viva_loop(camera, blocks)

    def open_camera() -> Any:
        camera = opened("genicam.usb3", pixel_format="Mono8")()
        camera.roi = type(camera.roi)(0, 0, 640, 480)
        return camera

    yield Pair(lambda: fetched(open_camera, BLOCK, blocks), bare)


@contextmanager
def opencv_stream(blocks: int) -> Iterator[Pair]:
    """JPEG pictures over HTTP, 640 × 480 at 40 Hz, and a loop of ``VideoCapture.read``."""
    need_module("pytest")  # of which the server's package makes use
    import cv2

    code = """
import sys
import numpy as np
from drivers.testing.mjpeg import MjpegServer
with MjpegServer(lambda number: np.full((480, 640), number % 256, np.uint8), 40.0) as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""
    with served(code) as url:

        def bare() -> float:
            capture = cv2.VideoCapture(url)
            try:
                return copied(lambda: capture.read()[1][:, :, 0], BLOCK, blocks)
            finally:
                capture.release()

        camera = opened("opencv", url=url, exposure_s=0.005, channel="green", latency_s=0.02)
        yield Pair(lambda: fetched(camera, BLOCK, blocks), bare)


@contextmanager
def opencv_images(blocks: int) -> Iterator[Pair]:
    """Numbered PNG images of full HD and 16 bits, and a loop of ``VideoCapture.read``."""
    import cv2

    with _images(FEW * (blocks + 1) + 1) as folder:
        pattern = str(folder / "frame%04d.png")

        def bare() -> float:
            capture = cv2.VideoCapture(pattern, cv2.CAP_IMAGES)
            return copied(lambda: capture.read()[1], FEW, blocks)

        camera = opened("opencv", file=pattern, library="IMAGES", exposure_s=0.001, bit_depth=12)
        yield Pair(lambda: fetched(camera, FEW, blocks), bare)


@contextmanager
def opencv_video(blocks: int) -> Iterator[Pair]:
    """A lossless video of 640 × 480, FFV1, and a loop of ``VideoCapture.read``."""
    import cv2

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "run.avi")
        writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"FFV1"), 60.0, (640, 480))
        scene = np.random.default_rng(0).integers(0, 200, (480, 640), np.uint8)
        for number in range(BLOCK * (blocks + 1) + 1):
            writer.write(np.repeat((scene + np.uint8(number % 50))[:, :, None], 3, axis=2))
        writer.release()

        def bare() -> float:
            capture = cv2.VideoCapture(path)
            return copied(lambda: capture.read()[1][:, :, 1], BLOCK, blocks)

        camera = opened("opencv", file=path, exposure_s=0.001, channel="green")
        yield Pair(lambda: fetched(camera, BLOCK, blocks), bare)


@contextmanager
def replay(blocks: int) -> Iterator[Pair]:
    """A folder of PNG images of full HD and 16 bits, and a loop of ``cv2.imread``."""
    import cv2

    with _images(FEW * (blocks + 1) + 1) as folder:

        def bare() -> float:
            files = iter(sorted(folder.iterdir()))
            return copied(lambda: cv2.imread(str(next(files)), cv2.IMREAD_UNCHANGED), FEW, blocks)

        camera = opened("replay", path=str(folder), exposure_s=0.001, bit_depth=12)
        yield Pair(lambda: fetched(camera, FEW, blocks), bare)


@contextmanager
def _images(count: int) -> Iterator[Path]:
    """A folder of so many names of three pictures; noise of 12 bits is what a camera's pictures are like to read."""
    import cv2

    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pictures = [cv2.imencode(".png", rng.integers(0, 4000, FULL_HD, np.uint16))[1].tobytes() for _ in range(3)]
        for number in range(3):
            (folder / f"frame{number:04d}.png").write_bytes(pictures[number])
        for number in range(3, count):
            (folder / f"frame{number:04d}.png").hardlink_to(folder / f"frame{number % 3:04d}.png")
        yield folder


@contextmanager
def slmsuite(blocks: int) -> Iterator[Pair]:
    """slmsuite's class `Basler` on pylon's emulator, full HD, and its ``get_image``: one exposure for each call."""
    need_module("slmsuite")
    need_module("pypylon")
    from drivers.libraries.loading import load

    rows, columns = FULL_HD

    def bare() -> float:
        camera = load("slmsuite.hardware.cameras.basler:Basler")(serial="0815-0000")
        camera.set_woi((0, columns, 0, rows))
        try:
            return copied(camera.get_image, FEW, blocks)
        finally:
            camera.close()

    def open_camera() -> Any:
        camera = opened("slmsuite.camera", target="basler", arguments={"serial": "0815-0000"})()
        camera.roi = type(camera.roi)(0, 0, columns, rows)
        return camera

    yield Pair(lambda: fetched(open_camera, FEW, blocks), bare)
