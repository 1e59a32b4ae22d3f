"""Panels through slmsuite's classes: Meadowlark, HOLOEYE, Santec, Hamamatsu, Thorlabs, Texas Instruments, a monitor.

In the station file, by family, with the arguments that slmsuite's class takes::

    [devices.slm]
    backend = "slmsuite.slm"
    options = {target = "holoeye", arguments = {preselect = "serial:2220-0011", wav_um = 0.633}, settle_s = 0.05}
    # target = "meadowlark"        arguments = {slm_number = 1, lut_path = 'C:\\...\\slm5758_at633.lut'}
    # target = "santec"            arguments = {slm_number = 1, display_number = 2, wav_um = 0.633}
    # target = "hamamatsu"         arguments = {serial_number = "LSH0803", wav_um = 0.633}
    # target = "thorlabs"          arguments = {display_number = 1, pitch_um = [8.0, 8.0]}
    # target = "texasinstruments"  arguments = {model_name = "p47", display_number = 1}
    # target = "my_package.my_slm:MySlm", any subclass of slmsuite.hardware.slms.slm:SLM

Gray levels go to the panel as they are: slmsuite's scaling of phases, its lookup table and its correction of the
wavefront are not used, and each frame that slmsuite says it has sent is compared with the one that was shown. What the
vendor's own library does to a level (Meadowlark's .lut file, Santec's phase table, HOLOEYE's wavelength) is set by the
arguments, and is part of what a calibration measures. A lookup table that did not load, and a frame that the vendor's
library refused, which slmsuite only writes to its log, are errors here.

``settle_s`` is slmsuite's ``settle_time_s`` (0.3 s unless its class says otherwise) where the option does not say it;
showing a frame does not wait for it. `Proof.FAKE` below means that slmsuite's own class was run on a stand-in for the
vendor's library, written from what the class and the vendor document: no such panel has ever answered these tests.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

import numpy as np

from drivers import checks
from drivers.backend import PANEL, Backend, Family, Proof
from drivers.errors import CapabilityError, DeviceError, DeviceLost, DeviceProtocolError, NotConnected
from drivers.libraries import slmsuite
from drivers.libraries.worker import Worker
from drivers.options import Checked, option
from drivers.protocols import DeviceFacts, Identity, Levels, OpenContext, ShowReceipt

T = TypeVar("T")

_BASE = "slmsuite.hardware.slms.slm:SLM"


@dataclass(frozen=True)
class SlmsuiteSlmOptions(Checked):
    """Options of the backend ``slmsuite.slm``.

    Attributes
    ----------
    target
        A family (``"holoeye"``) or the path of a class, ``"package.module:Class"``.
    arguments
        Of the class. ``gpu`` may not be among them: levels stay in the host's memory.
    refresh_hz
        Of the panel [Hz]: slmsuite does not know it.
    settle_s
        From the refresh until a frame can be read; that of the class if omitted [s].
    opening_s
        Time that opening may take; a Santec panel rewrites its phase table in 40 s [s].
    """

    target: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    refresh_hz: float = option(0.1, 100_000, 60.0)
    settle_s: float | None = option(1e-6, 60, None)
    opening_s: float = option(0.1, 600, 60.0)


class SlmsuiteModulator:
    """A modulator that is an object of one of slmsuite's classes.

    Parameters
    ----------
    name
        What the station calls it.
    options
        Its options; it is opened here.
    """

    def __init__(self, name: str, options: SlmsuiteSlmOptions) -> None:
        if "gpu" in options.arguments:
            raise CapabilityError(
                "levels stay in the host's memory", device=name, action="open", expected="no argument gpu"
            )
        self.name = name
        self.refresh_hz = options.refresh_hz
        self._kind = slmsuite.kind_of(name, options.target, slmsuite.SLMS)
        self._frame_id = 0
        self._worker_or_gone: Worker | None = Worker(name)
        self._warned: list[str] = []
        try:
            self._slm = self._call("open", lambda: self._opened(options.arguments), options.opening_s)
        except BaseException:
            self._worker.close()
            raise
        self.shape: tuple[int, int] = tuple(int(n) for n in self._slm.shape)  # type: ignore[assignment]
        self.levels = 2 ** int(self._slm.bitdepth)
        self._dtype = np.dtype(self._slm.dtype)
        self.settle_s = options.settle_s if options.settle_s is not None else float(self._slm.settle_time_s)
        try:
            self._check_panel()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        worker = self._worker_or_gone
        if worker is None:
            return
        try:
            self.blank()
        finally:
            self._worker_or_gone = None
            slm = self.__dict__.pop("_slm")
            worker.end("close", lambda: slmsuite.let_go(slm), 5.0)

    def identify(self) -> Identity:
        self._worker  # noqa: B018 — closed is closed
        slm = self._slm
        if hasattr(slm, "window"):  # one on a monitor, which has no serial number
            serial = f"display {slm.display_number}"
        else:
            serial = str(getattr(slm, "serial_number", None) or getattr(slm, "preselect", None) or slm.name)
        return Identity(slmsuite.vendor_of(self._kind), type(slm).__name__, serial, slmsuite.version())

    def snapshot(self, timeout_s: float = 5.0) -> dict[str, Any]:
        self._worker  # noqa: B018
        slm = self._slm
        return {
            "serial": self.identify().serial,
            "class": self._kind.target,
            "shape_px": list(self.shape),
            "levels": self.levels,
            "wavelength_um": float(slm.wav_um),
            "design_wavelength_um": float(slm.wav_design_um),
            "pitch_um": [float(p) for p in slm.pitch_um],
            "settle_s": self.settle_s,
            "refresh_hz": self.refresh_hz,
            "frame_id": self._frame_id,
            "warned_at_opening": list(self._warned),
        }

    def safe_state(self, timeout_s: float = 5.0) -> None:
        if self._worker_or_gone is not None:
            self.blank(timeout_s)

    def show(self, levels: Levels, timeout_s: float = 2.0) -> ShowReceipt:
        self._worker  # noqa: B018
        levels = checks.levels_shown(self.name, levels, self.shape, self.levels)
        # A copy: where the call times out, the library still reads it while the caller changes their array.
        frame = np.array(levels, dtype=self._dtype, order="C")
        shown_at_s = self._call("show a frame", lambda: self._write(frame), timeout_s)
        self._frame_id += 1
        return ShowReceipt(self._frame_id, shown_at_s)

    def blank(self, timeout_s: float = 2.0) -> ShowReceipt:
        return self.show(np.zeros(self.shape, self._dtype), timeout_s)

    @property
    def _worker(self) -> Worker:
        if self._worker_or_gone is None:
            raise DeviceLost(f"{self.name} is closed", device=self.name, hint="open it again")
        return self._worker_or_gone

    def _call(self, action: str, do: Callable[[], T], timeout_s: float) -> T:
        """Have slmsuite do something; what it raises becomes an error of ours."""
        try:
            return self._worker.call(action, do, timeout_s)
        except DeviceError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            kind = NotConnected if action == "open" else DeviceLost
            raise kind(f"{self.name} failed: {reason}", device=self.name, action=action, seen=reason) from error

    def _opened(self, arguments: Mapping[str, Any]) -> Any:
        slmsuite.quiet()
        found = slmsuite.found_class(self.name, self._kind, _BASE)
        with slmsuite.complaints() as said:
            slm = slmsuite.made(found, arguments)
        self._warned = said
        lut = next((words for words in said if "LUT" in words), None)
        if lut is not None:
            slmsuite.let_go(slm)
            raise NotConnected(
                "the panel's lookup table is not the one that was asked for",
                device=self.name,
                action="open",
                expected="one lookup table that loads",
                seen=lut,
                hint="name the .lut file: arguments = {lut_path = '...'}",
            )
        return slm

    def _check_panel(self) -> None:
        if self._dtype.kind != "u" or self._slm.xp is not np:
            raise CapabilityError(
                "no panel of unsigned gray levels in the host's memory",
                device=self.name,
                action="open",
                expected="uint8 or uint16, numpy",
                seen=f"{self._dtype}, {self._slm.xp.__name__}",
            )
        if not self.settle_s > 0:
            raise CapabilityError(
                "time to settle is not known",
                device=self.name,
                action="open",
                expected="settle_s above 0",
                seen=f"{self.settle_s:g} s",
                hint="give the option settle_s",
            )

    def _write(self, frame: Levels) -> float:
        """Send a frame by slmsuite's path for integers, and make sure that it went as it was."""
        assert frame.dtype == self._dtype, f"{frame.dtype} to a panel of {self._dtype}"
        with slmsuite.complaints() as said:
            sent = self._slm.set_phase(frame, phase_correct=False, settle=False)
        shown_at_s = time.monotonic()
        if said:
            raise DeviceProtocolError(
                "the panel did not take the frame", device=self.name, action="show a frame", seen="; ".join(said)
            )
        # A panel of Texas Instruments is sent a picture of electrodes instead, which has another shape.
        if sent.shape == self.shape and not (sent.dtype == frame.dtype and np.array_equal(sent, frame)):
            raise DeviceProtocolError(
                "slmsuite sent other gray levels than it was given",
                device=self.name,
                action="show a frame",
                expected="the frame as it is, without correction",
                seen=f"{sent.dtype} {int(sent.min())} … {int(sent.max())}",
            )
        return shown_at_s


def _open(name: str, options: SlmsuiteSlmOptions, context: OpenContext) -> SlmsuiteModulator:
    return SlmsuiteModulator(name, options)


def _describe(options: SlmsuiteSlmOptions, context: OpenContext) -> DeviceFacts:
    return DeviceFacts(refresh_hz=options.refresh_hz)


_TEST = "tests/endpoints/test_slmsuite_slms.py"
_FAKES = "tests/endpoints/test_slmsuite_stand_ins.py"
_MONITOR = "slmsuite's window, read back from a monitor of an X server"

FAMILIES = (
    Family("panel on a monitor, through slmsuite", Proof.LIVE, _MONITOR, _TEST),
    Family("Thorlabs EXULUS, through slmsuite", Proof.FAKE, f"{_MONITOR}, which stands in for one", _TEST),
    Family(
        "Texas Instruments PLM, through slmsuite",
        Proof.FAKE,
        "its electrodes, read back from a monitor of an X server, which stands in for it; without its controller",
        _TEST,
    ),
    Family("HOLOEYE, through slmsuite", Proof.FAKE, "slmsuite's class on a stand-in for HEDS 4", _FAKES),
    Family("Santec, through slmsuite", Proof.FAKE, "slmsuite's class on a stand-in for SLMFunc.dll", _FAKES),
    Family("Hamamatsu, through slmsuite", Proof.FAKE, "slmsuite's class on a stand-in for hpkSLMdaLV.dll", _FAKES),
    Family(
        "Meadowlark, PCIe, through slmsuite",
        Proof.FAKE,
        "slmsuite's class on a stand-in for Blink_C_wrapper.dll, the generation of six arguments",
        _FAKES,
    ),
    Family("Meadowlark, HDMI, through slmsuite", Proof.NOT_RUN, "its lookup table is loaded by another call"),
    Family("slmsuite's simulated SLM", Proof.EMULATOR, "slmsuite's SimulatedSLM", _TEST),
    Family("SLM of another computer, through slmsuite's server", Proof.LIVE, "slmsuite's server on loopback", _TEST),
)

SLM = Backend(
    "slmsuite.slm",
    PANEL,
    SlmsuiteSlmOptions,
    _open,
    _describe,
    needs=("slmsuite",),
    install="pip install labctl[slmsuite]",
    families=FAMILIES,
)
"""Any SLM that slmsuite drives."""
