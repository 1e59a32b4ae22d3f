"""Stand-ins for the libraries of SLM makers, which cannot be had here: contract fakes, written from what they document.

slmsuite's own class runs on each of them unchanged. What it hands over is taken as the library would take it: through
C calls with the documented types where the library is a DLL, by the documented kinds of array where it is Python. A
frame of the wrong type, shape or range is refused with the library's own error. They live with the tests, not in the
package, so that nobody opens one by mistake; and each calls its vendor "(contract fake)" wherever a name is shown.
"""

from __future__ import annotations

import codecs
import ctypes
import sys
import types
from collections.abc import Callable
from ctypes import (
    CFUNCTYPE,
    POINTER,
    c_bool,
    c_char_p,
    c_double,
    c_int,
    c_int32,
    c_ubyte,
    c_uint,
    c_uint32,
    c_ushort,
    wintypes,
)
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivers.libraries import slmsuite
from drivers.libraries.loading import load


def fresh(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    """Have slmsuite's modules imported anew in this test, and forgotten after it."""
    for module in modules:
        package, _, name = module.rpartition(".")
        parent = load(package)
        # Set and deleted, so that monkeypatch puts back the state before: there was no such module.
        monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
        monkeypatch.setattr(parent, name, None, raising=False)
        del sys.modules[module], parent.__dict__[name]


def labelled(monkeypatch: pytest.MonkeyPatch, vendor: str) -> None:
    """The vendor's devices are called contract fakes from now on."""
    monkeypatch.setattr(slmsuite, "stand_ins", {*slmsuite.stand_ins, vendor})


class Library(types.SimpleNamespace):
    """A loaded DLL: attributes are C functions, called with C's types."""


def c_function(restype: Any, *argtypes: Any) -> Callable[[Callable[..., Any]], Any]:
    """Make a Python function a C function of this prototype."""
    return lambda function: CFUNCTYPE(restype, *argtypes)(function)


class ByName:
    """``ctypes.windll``, with one library in it."""

    def __init__(self, name: str, library: Library) -> None:
        self._name, self._library = name, library

    def LoadLibrary(self, name: str) -> Library:
        assert name == self._name
        return self._library


# --- HOLOEYE: SLM Display SDK 4, a Python package ---------------------------------------------------------------------


class Holoeye:
    """The modules ``HEDS`` and ``hedslib``, with one panel of 8 bit connected.

    Attributes
    ----------
    shown
        The levels of the last frame that it took.
    refuse
        It answers every frame with an error while this is set.
    """

    shape = (120, 160)

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shown: np.ndarray | None = None
        self.refuse = self.open = False
        self.wavelength_nm = 0.0
        heds, hedslib, kinds = types.ModuleType("HEDS"), types.ModuleType("hedslib"), types.ModuleType("heds_types")
        kinds.HEDSERR_NoError = 0  # type: ignore[attr-defined]
        hedslib.heds_types = kinds  # type: ignore[attr-defined]
        heds.SDK = types.SimpleNamespace(  # type: ignore[attr-defined]
            Init=lambda major, minor: 3 * int((major, minor) != (4, 0)),
            ErrorString=lambda code: f"HEDS error {code}",
        )
        heds.SLM = types.SimpleNamespace(Init=self._init)  # type: ignore[attr-defined]
        for name, module in (("HEDS", heds), ("hedslib", hedslib), ("hedslib.heds_types", kinds)):
            monkeypatch.setitem(sys.modules, name, module)
        fresh(monkeypatch, "slmsuite.hardware.slms.holoeye")
        labelled(monkeypatch, "HOLOEYE")

    def _init(self, preselect: str | None = None) -> Holoeye:
        assert preselect is None or isinstance(preselect, str)
        self.open = True
        return self

    def errorCode(self) -> int:
        return 0

    def setWavelength(self, wavelength_nm: float) -> int:
        self.wavelength_nm = float(wavelength_nm)
        return 0 if 300 < wavelength_nm < 2000 else 5

    def pixelsize_um(self) -> float:
        return 8.0

    def width_px(self) -> int:
        return self.shape[1]

    def height_px(self) -> int:
        return self.shape[0]

    def window(self) -> Holoeye:
        return self

    def close(self) -> int:
        self.open = False
        return 0

    def showPhaseData(self, data: Any, phase_unit: float = 2 * np.pi) -> int:
        """``data`` : (rows, columns) contiguous uint8, float32 or float64; ``phase_unit`` is the value of 2π."""
        kinds = (np.uint8, np.float32, np.float64)
        fits = isinstance(data, np.ndarray) and data.ndim == 2 and data.shape == self.shape and data.dtype in kinds
        if not fits or not data.flags.c_contiguous or not self.open:
            return 7
        if self.refuse or phase_unit != 256:
            return 9
        self.shown = data.copy()
        return 0


# --- Santec: SLMFunc.dll ----------------------------------------------------------------------------------------------


class Santec:
    """``SLMFunc.dll`` with one SLM-200 of 10 bit. Attributes as those of `Holoeye`."""

    shape = (120, 160)

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shown: np.ndarray | None = None
        self.refuse = self.open = False
        self.wavelength_nm, self.phase = 1064, 200
        self._functions = Library()
        # Windows' character set, and its long of 32 bit, which slmsuite's class counts on.
        codecs.register(_mbcs)
        monkeypatch.setattr(wintypes, "DWORD", c_uint32)
        monkeypatch.setattr(ctypes, "windll", ByName("SLMFunc.dll", self.library()), raising=False)
        fresh(monkeypatch, "slmsuite.hardware.slms.santec", "slmsuite.hardware.slms._slm_win")
        santec = load("slmsuite.hardware.slms.santec")
        windows = types.ModuleType("ctypes")
        windows.__dict__.update(vars(ctypes), c_ulong=c_uint32)
        monkeypatch.setattr(santec, "ctypes", windows)
        labelled(monkeypatch, "Santec")

    def library(self) -> Library:
        dword, ushort, status = wintypes.DWORD, c_ushort, c_int32
        words, shorts = POINTER(c_uint32), POINTER(c_ushort)
        buffer = ctypes.c_void_p

        def opened(number: int) -> int:
            if number != 1 or self.open:
                return -10003 if number == 1 else -10002
            self.open = True
            return 0

        def closed(number: int) -> int:
            self.open = False
            return 0

        def write_wavelength(number: int, wavelength_nm: int, phase: int) -> int:
            if not 450 <= wavelength_nm <= 1600 or phase > 300:
                return 3
            self.wavelength_nm, self.phase = wavelength_nm, phase
            return 0

        def read_wavelength(number: int, wavelength_nm: Any, phase: Any) -> int:
            wavelength_nm[0], phase[0] = self.wavelength_nm, self.phase
            return 0

        def display_info(number: int, width: Any, height: Any, name: int) -> int:
            if number != 2:
                return -1
            height[0], width[0] = self.shape
            ctypes.memmove(name, b"LCOS-SLM,SOC,8001,CONTRACT-FAKE\0", 32)
            return 0

        def ids(number: int, device: int, option: int) -> int:
            ctypes.memmove(device, b"D0001\0", 6)
            ctypes.memmove(option, b"O0001\0", 6)
            return 0

        def errors(number: int, device: Any, option: Any) -> int:
            device[0] = option[0] = 0
            return 0

        def data(number: int, width: int, height: int, flags: int, pixels: int) -> int:
            """USHORT data[height][width], each 0 … 1023."""
            if number != 2 or not self.open:
                return -2
            if (height, width) != self.shape or flags != 0 or not pixels:
                return 3
            levels = np.ctypeslib.as_array((c_ushort * (width * height)).from_address(pixels)).reshape(self.shape)
            if levels.max() > 1023 or self.refuse:
                return -4
            self.shown = levels.copy()
            return 0

        self._functions = library = Library()
        library.SLM_Ctrl_Open = c_function(status, dword)(opened)
        library.SLM_Ctrl_Close = c_function(status, dword)(closed)
        library.SLM_Ctrl_ReadSU = c_function(status, dword)(lambda number: 0)
        library.SLM_Ctrl_ReadEDO = c_function(status, dword, words, words)(errors)
        library.SLM_Ctrl_WriteVI = c_function(status, dword, dword)(lambda number, mode: 0 if mode in (0, 1) else 3)
        library.SLM_Ctrl_ReadWL = c_function(status, dword, words, words)(read_wavelength)
        library.SLM_Ctrl_WriteWL = c_function(status, dword, dword, dword)(write_wavelength)
        library.SLM_Ctrl_WriteAW = c_function(status, dword)(lambda number: 0)
        library.SLM_Ctrl_ReadSDO = c_function(status, dword, buffer, buffer)(ids)
        library.SLM_Disp_Info2 = c_function(status, dword, shorts, shorts, buffer)(display_info)
        library.SLM_Disp_Open = c_function(status, dword)(lambda number: 0 if number == 2 else -1)
        library.SLM_Disp_Close = c_function(status, dword)(lambda number: 0)
        library.SLM_Disp_Data = c_function(status, dword, ushort, ushort, dword, ctypes.c_void_p)(data)
        return Rest(library)


class Rest(Library):
    """A library whose other functions are there, and refuse to be called."""

    def __init__(self, library: Library) -> None:
        super().__init__(**vars(library))

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("SLM_"):
            raise AttributeError(name)
        return types.SimpleNamespace()


def _mbcs(name: str) -> codecs.CodecInfo | None:
    return codecs.lookup("latin-1") if name == "mbcs" else None


# --- Hamamatsu: hpkSLMdaLV.dll ----------------------------------------------------------------------------------------


class Hamamatsu:
    """``hpkSLMdaLV.dll`` with one X15213 of 8 bit in USB mode. Attributes as those of `Holoeye`."""

    shape = (1024, 1272)

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.slots: dict[int, np.ndarray] = {}
        self.slot = 0
        self.refuse = self.open = False
        monkeypatch.setattr(ctypes, "windll", ByName("hpkSLMdaLV.dll", self.library()), raising=False)
        fresh(monkeypatch, "slmsuite.hardware.slms.hamamatsu")
        labelled(monkeypatch, "Hamamatsu")

    @property
    def shown(self) -> np.ndarray | None:
        return self.slots.get(self.slot)

    def library(self) -> Library:
        board, octets = ctypes.c_uint8, ctypes.c_void_p

        def opened(ids: int, size: int) -> int:
            self.open = True
            ctypes.memset(ids, 1, 1)
            return 1

        def closed(ids: int, size: int) -> int:
            self.open = False
            return 1

        def serial(number: int, text: int, size: int) -> int:
            ctypes.memmove(text, b"FAKE000001\0", 11)
            return int(number == 1 and size == 11)

        def mode(number: int, value: Any) -> int:
            value[0] = 1
            return 1

        def write(number: int, pixels: int, size: int, columns: int, rows: int, slot: int) -> int:
            """uint8 array of X × Y pixels, row after row, into a frame memory 0 … 1023."""
            if not self.open or self.refuse or number != 1 or (rows, columns) != self.shape or size != rows * columns:
                return 0
            if not 0 <= slot < 1024:
                return 0
            levels = np.ctypeslib.as_array((c_ubyte * size).from_address(pixels)).reshape(self.shape)
            self.slots[slot] = levels.copy()
            return 1

        def change(number: int, slot: int) -> int:
            self.slot = slot
            return int(slot in self.slots)

        library = Library()
        library.Open_Dev = c_function(c_int, octets, c_int32)(opened)
        library.Close_Dev = c_function(c_int, octets, c_int32)(closed)
        library.Check_HeadSerial = c_function(c_int, board, octets, c_int32)(serial)
        library.Mode_Check = c_function(c_int, board, POINTER(c_uint32))(mode)
        library.Write_FMemArray = c_function(c_int, board, octets, c_int32, c_uint32, c_uint32, c_uint32)(write)
        library.Change_DispSlot = c_function(c_int, board, c_uint32)(change)
        return library


# --- Meadowlark: Blink_C_wrapper.dll ----------------------------------------------------------------------------------


class Meadowlark:
    """Blink's C wrapper for PCIe boards, of the generation whose ``Write_image`` has six arguments.

    Attributes as those of `Holoeye`, and ``lut_loads``: whether the lookup table loads.
    """

    shape = (120, 160)
    header = (
        "int Create_SDK(unsigned int* n_boards_found, int* constructed_ok);\n"
        "int Write_image(int board, unsigned char* image, int wait_for_trigger, int flip_immediate,"
        " int output_pulse, unsigned int trigger_timeout_ms);\n"
    )

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.shown: np.ndarray | None = None
        self.refuse = False
        self.lut_loads = True
        self.lut = b""
        sdk = folder / "SDK"
        sdk.mkdir(exist_ok=True)
        (sdk / "Blink_C_wrapper.h").write_text(self.header)
        for name in ("Blink_C_wrapper.dll", "Blink_C_Wrapper.dll"):  # Windows takes them for one file, as slmsuite does
            (sdk / name).write_bytes(b"")
        self.lut_path = sdk / "slm0001_at633.lut"
        self.lut_path.write_text("0 0\n255 255\n")
        self.arguments = {"sdk_path": str(sdk / "any"), "lut_path": str(self.lut_path)}
        fresh(monkeypatch, "slmsuite.hardware.slms.meadowlark")
        meadowlark = load("slmsuite.hardware.slms.meadowlark")
        windows = types.ModuleType("ctypes")
        windows.__dict__.update(vars(ctypes), CDLL=lambda path, mode: self.library(), windll=_AwareOfPixels())
        monkeypatch.setattr(meadowlark, "ctypes", windows)
        labelled(monkeypatch, "Meadowlark")

    def library(self) -> Library:
        flag = c_bool

        def created(boards: Any, okay: Any) -> int:
            boards[0], okay[0] = 1, 1
            return 1

        def load_lut(board: int, path: bytes) -> int:
            self.lut = path
            return int(self.lut_loads and Path(path.decode()).is_file())

        def write(board: int, image: Any, wait: bool, immediate: bool, pulse: bool, timeout_ms: int) -> int:
            """unsigned char image[height * width]."""
            if board != 1 or self.refuse or not 0 < timeout_ms < 60_000 or immediate or wait:
                return 0
            size = self.shape[0] * self.shape[1]
            address = ctypes.addressof(image.contents)
            self.shown = np.ctypeslib.as_array((c_ubyte * size).from_address(address)).reshape(self.shape).copy()
            return 1

        library = Library(_handle=0)
        library.Create_SDK = c_function(c_int, POINTER(c_uint), POINTER(c_int))(created)
        library.Load_LUT_file = c_function(c_int, c_int, c_char_p)(load_lut)
        library.Read_Serial_Number = c_function(c_int, c_int)(lambda board: 1)
        library.Get_image_width = c_function(c_int, c_int)(lambda board: self.shape[1])
        library.Get_image_height = c_function(c_int, c_int)(lambda board: self.shape[0])
        library.Get_image_depth = c_function(c_int, c_int)(lambda board: 8)
        library.Get_pitch = c_function(c_double, c_int)(lambda board: 9.2)
        library.Write_image = c_function(c_int, c_uint, POINTER(c_ubyte), flag, flag, flag, c_uint)(write)
        library.ImageWriteComplete = c_function(c_int, c_uint, c_uint)(lambda board, timeout_ms: 1)
        return library


class _AwareOfPixels:
    """``ctypes.windll``: Windows agrees that a pixel is a pixel."""

    shcore = types.SimpleNamespace(
        GetProcessDpiAwareness=lambda process, awareness: 0, SetProcessDpiAwareness=lambda level: 0
    )
    user32 = types.SimpleNamespace(SetProcessDPIAware=lambda: 1)
