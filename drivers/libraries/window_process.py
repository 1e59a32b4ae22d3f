"""The program that holds one full-screen window: `drivers.libraries.window` starts it, as a file, and speaks with it.

It reads one JSON command per line from standard input and writes one JSON answer per line to standard output. Frames
pass through a file that both map into memory. It ends when standard input does or when its parent process is gone, so
that a panel never keeps showing what nobody is in charge of. It imports nothing of ours.
"""

from __future__ import annotations

import ctypes
import importlib
import itertools
import json
import mmap
import os
import queue
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

LOOK_EVERY_S = 5.0
"""How often the gamma ramp and the monitor are looked at, with the frames that are shown [s]."""

_PROBED_SWAPS = 12
_LOOK_S = 0.5
_FULL_SCREEN_S = 10.0
_GRACE_S = 2.0
_EVENTS_S = 0.05
_SOFTWARE = "llvmpipe", "softpipe", "swrast", "swr", "gdi generic"


def main(arguments: list[str]) -> None:
    """Open the window that the arguments (one JSON table) describe, and obey until told to end."""
    setting = json.loads(arguments[0])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a graphics library prints must not get between the answers
    commands: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    wake: list[Any] = []
    threading.Thread(target=_listen, args=(commands, wake), daemon=True).start()
    threading.Thread(target=_end_with, args=(setting["parent"],), daemon=True).start()

    def answer(number: int, **parts: object) -> None:
        answers.write(json.dumps({"id": number, **parts}) + "\n")
        answers.flush()

    try:
        window = Window(setting)
    except Exception as error:
        answer(0, error=str(error), kind="cannot open")
        return
    wake.append(window.wake)
    answer(0, **window.facts())
    try:
        while (command := window.next_of(commands)) is not None:
            try:
                answer(command["id"], **getattr(window, "do_" + command["do"])(**command["with"]))
            except Changed as error:
                answer(command["id"], error=str(error), kind="changed")
                break
            except Exception as error:
                answer(command["id"], error=f"{type(error).__name__}: {error}", kind="failed")
    except Changed as error:
        print(error, file=sys.stderr)
    window.close()


class Changed(Exception):
    """The monitor is not what it was when the window was opened."""


class Window:
    """A full-screen window without cursor, which shows frames pixel by pixel.

    Parameters
    ----------
    setting
        ``name``, ``x``, ``y``, ``width``, ``height``, ``refresh_hz`` of the monitor, and ``file``: the path of the
        frame's file, 3 bytes for each pixel.
    """

    def __init__(self, setting: dict[str, Any]) -> None:
        os.environ["__GL_SYNC_TO_VBLANK"] = "1"  # NVIDIA's library reads these three when it is loaded
        os.environ["__GL_SYNC_DISPLAY_DEVICE"] = setting["name"]
        os.environ["__GL_MaxFramesAllowed"] = "1"  # noqa: SIM112
        os.environ["PYGLFW_LIBRARY_VARIANT"], os.environ["PYOPENGL_PLATFORM"] = "x11", "glx"
        self._glfw: Any = importlib.import_module("glfw")
        self._gl: Any = importlib.import_module("OpenGL.GL")
        glfw = self._glfw
        self._said: list[str] = []
        glfw.set_error_callback(lambda code, words: self._said.append(words.decode(errors="replace")))
        self._x, self._y, self._width, self._height = (setting[key] for key in ("x", "y", "width", "height"))
        self._period_s, self._name = 1.0 / setting["refresh_hz"], setting["name"]
        self._monitor = self._find()
        self._window = self._open()
        with Path(setting["file"]).open("r+b") as file:
            self._frame = mmap.mmap(file.fileno(), self._width * self._height * 3)
        self._texture()
        self._swapped_s = 0.0
        self._paced, self._channels = False, 3
        self._looked_s = time.monotonic()
        self._monitors_changed = False
        glfw.set_window_refresh_callback(self._window, lambda window: self._draw())
        glfw.set_monitor_callback(lambda monitor, event: self._note_monitors())
        glfw.set_framebuffer_size_callback(self._window, lambda window, width, height: self._note_monitors())
        self._frame[:] = bytes(len(self._frame))
        self._intervals_s = self._probe()
        self._renderer = self._gl.glGetString(self._gl.GL_RENDERER).decode(errors="replace")
        within = sorted(self._intervals_s)[len(self._intervals_s) // 2] > 0.6 * self._period_s
        self._paced = not within or any(word in self._renderer.lower() for word in _SOFTWARE)

    def facts(self) -> dict[str, Any]:
        """What the other side must know of the window."""
        return {
            "renderer": self._renderer,
            "vertical_sync": not self._paced,
            "composited": self._composited(),
            "swap_interval_s": sorted(self._intervals_s)[len(self._intervals_s) // 2],
            "ramp_error": self._ramp_error(),
        }

    def next_of(self, commands: queue.SimpleQueue[dict[str, Any] | None]) -> dict[str, Any] | None:
        """The next command, None at the end; the window system's events are handled until then.

        Raises `Changed` where the monitor goes meanwhile: the window system then puts the window on another one.
        """
        while True:
            try:
                return commands.get_nowait()
            except queue.Empty:
                self._glfw.wait_events_timeout(_EVENTS_S)
                self._glfw.set_window_should_close(self._window, False)
            if self._monitors_changed:
                self._monitors_changed = False
                self._check_monitor()

    def wake(self) -> None:
        """Called from another thread: there is a command."""
        self._glfw.post_empty_event()

    def do_show(self, channels: int, look: bool) -> dict[str, Any]:
        """Show the frame that lies in the file, of 1 or 3 bytes per pixel; comes back when the buffers were swapped.

        With ``look``, the monitor is looked at every few seconds whether it still shows what it is given.
        """
        self._check_monitor()
        self._upload(channels)
        self._draw()
        self._channels = channels
        at_s = self._swapped_s
        if not look or at_s - self._looked_s < LOOK_EVERY_S:
            return {"at_s": at_s}
        return {"at_s": at_s, **self.do_look()}

    def do_look(self) -> dict[str, Any]:
        """Whether the monitor shows the frame that was shown last, and its gamma ramp."""
        self._check_monitor()
        self._looked_s = time.monotonic()
        return {"ramp_error": self._ramp_error(), "as_shown": self._as_shown(self._channels)}

    def do_grab(self) -> dict[str, Any]:
        """Put a screenshot of the monitor into the file, red, green and blue."""
        self._check_monitor()
        picture = self._screenshot()
        if (picture.width, picture.height) == (self._width, self._height):
            self._frame[:] = picture.rgb
        return {"width": picture.width, "height": picture.height}

    def do_facts(self) -> dict[str, Any]:
        """`facts`, asked for again."""
        self._check_monitor()
        return self.facts()

    def close(self) -> None:
        """Black, then gone."""
        try:
            self._frame[:] = bytes(len(self._frame))
            self._upload(3)
            self._draw()
        finally:
            self._glfw.terminate()

    def _note_monitors(self) -> None:
        self._monitors_changed = True

    def _screenshot(self) -> Any:
        mss: Any = importlib.import_module("mss")
        with mss.MSS() as screen:
            return screen.grab({"left": self._x, "top": self._y, "width": self._width, "height": self._height})

    def _as_shown(self, channels: int) -> bool:
        """Whether a screenshot is what lies in the file; a compositor may need a moment for it, a busy one a longer."""
        size = self._width * self._height * channels
        frame = self._frame[:size]
        until_s = time.monotonic() + _LOOK_S
        while True:
            seen = self._screenshot().rgb
            if seen == frame if channels == 3 else all(seen[i::3] == frame for i in range(3)):
                return True
            if time.monotonic() >= until_s:
                return False
            time.sleep(self._period_s)

    def _composited(self) -> bool:
        """Whether a compositor copies windows to the monitors: it owns ``_NET_WM_CM_Sn`` then (EWMH 1.5)."""
        x11 = ctypes.CDLL("libX11.so.6")
        x11.XInternAtom.restype = x11.XGetSelectionOwner.restype = ctypes.c_ulong
        display = ctypes.c_void_p(self._glfw.get_x11_display())
        atom = x11.XInternAtom(display, b"_NET_WM_CM_S%d" % x11.XDefaultScreen(display), False)
        return bool(x11.XGetSelectionOwner(display, ctypes.c_ulong(atom)))

    def _find(self) -> Any:
        glfw = self._glfw
        if not glfw.init():
            raise RuntimeError(f"the window system refused: {self._words()}")
        found = {glfw.get_monitor_name(one).decode(errors="replace"): one for one in glfw.get_monitors()}
        if self._name not in found:
            raise RuntimeError(f"no monitor {self._name}; there are {', '.join(found) or 'none'}")
        return found[self._name]

    def _open(self) -> Any:
        glfw, mode = self._glfw, self._glfw.get_video_mode(self._monitor)
        if tuple(mode.bits) != (8, 8, 8):
            raise RuntimeError(f"the desktop has {tuple(mode.bits)} bits of red, green and blue, not 8 of each")
        for hint, value in (
            (glfw.AUTO_ICONIFY, False),
            (glfw.FOCUSED, False),
            (glfw.FOCUS_ON_SHOW, False),
            (glfw.REFRESH_RATE, mode.refresh_rate),
            (glfw.RED_BITS, 8),
            (glfw.GREEN_BITS, 8),
            (glfw.BLUE_BITS, 8),
        ):
            glfw.window_hint(hint, value)
        title = f"labctl {self._name}"
        window = glfw.create_window(mode.size.width, mode.size.height, title, self._monitor, None)
        if not window:
            raise RuntimeError(f"no OpenGL window: {self._words()}")
        glfw.make_context_current(window)
        glfw.swap_interval(1)
        glfw.set_input_mode(window, glfw.CURSOR, glfw.CURSOR_HIDDEN)
        until_s = time.monotonic() + _FULL_SCREEN_S  # a window manager makes it full-screen a moment later
        while glfw.get_framebuffer_size(window) != (self._width, self._height) and time.monotonic() < until_s:
            glfw.wait_events_timeout(_EVENTS_S)
        if glfw.get_framebuffer_size(window) != (self._width, self._height):
            seen = "{}x{}".format(*glfw.get_framebuffer_size(window))
            raise RuntimeError(f"the window became {seen} pixels, not {self._width}x{self._height}: is it scaled?")
        return window

    def _texture(self) -> None:
        gl = self._gl
        gl.glViewport(0, 0, self._width, self._height)
        gl.glDisable(gl.GL_DITHER)
        gl.glDisable(gl.GL_BLEND)
        gl.glPixelStorei(gl.GL_UNPACK_ALIGNMENT, 1)
        gl.glEnable(gl.GL_TEXTURE_2D)
        gl.glTexEnvi(gl.GL_TEXTURE_ENV, gl.GL_TEXTURE_ENV_MODE, gl.GL_REPLACE)
        gl.glBindTexture(gl.GL_TEXTURE_2D, gl.glGenTextures(1))
        for name in (gl.GL_TEXTURE_MIN_FILTER, gl.GL_TEXTURE_MAG_FILTER):
            gl.glTexParameteri(gl.GL_TEXTURE_2D, name, gl.GL_NEAREST)
        for name in (gl.GL_TEXTURE_WRAP_S, gl.GL_TEXTURE_WRAP_T):
            gl.glTexParameteri(gl.GL_TEXTURE_2D, name, gl.GL_CLAMP_TO_EDGE)

    def _upload(self, channels: int) -> None:
        gl = self._gl
        kept, given = (gl.GL_LUMINANCE8, gl.GL_LUMINANCE) if channels == 1 else (gl.GL_RGB8, gl.GL_RGB)
        pixels = (gl.GLubyte * len(self._frame)).from_buffer(self._frame)
        gl.glTexImage2D(gl.GL_TEXTURE_2D, 0, kept, self._width, self._height, 0, given, gl.GL_UNSIGNED_BYTE, pixels)
        del pixels

    def _draw(self) -> None:
        """Draw the texture, its first row on top, and swap the buffers, at the next refresh where that can be had."""
        gl = self._gl
        gl.glBegin(gl.GL_QUADS)
        for u, v, x, y in ((0, 1, -1, -1), (1, 1, 1, -1), (1, 0, 1, 1), (0, 0, -1, 1)):
            gl.glTexCoord2f(u, v)
            gl.glVertex2f(x, y)
        gl.glEnd()
        gl.glFinish()
        if self._paced:
            time.sleep(max(0.0, self._swapped_s + self._period_s - time.monotonic()))
        self._glfw.swap_buffers(self._window)
        gl.glFinish()
        self._swapped_s = time.monotonic()

    def _probe(self) -> list[float]:
        """Times between swaps of a black frame: at least a refresh each, where swaps wait for it [s]."""
        self._upload(3)
        at_s = []
        for _ in range(_PROBED_SWAPS):
            self._draw()
            at_s.append(self._swapped_s)
        return [after - before for before, after in itertools.pairwise(at_s[3:])]

    def _check_monitor(self) -> None:
        """Raises `Changed` unless the monitor is still there, at the same place, in the same mode."""
        glfw = self._glfw
        glfw.poll_events()
        if not any(glfw.get_monitor_name(one) == self._name.encode() for one in glfw.get_monitors()):
            raise Changed(f"monitor {self._name} is unplugged or switched off")
        self._monitor = next(one for one in glfw.get_monitors() if glfw.get_monitor_name(one) == self._name.encode())
        mode = glfw.get_video_mode(self._monitor)
        seen = (*glfw.get_monitor_pos(self._monitor), mode.size.width, mode.size.height)
        if seen != (self._x, self._y, self._width, self._height):
            raise Changed("monitor {} was set to {}x{} at +{}+{}".format(self._name, seen[2], seen[3], *seen[:2]))
        if glfw.get_framebuffer_size(self._window) != (self._width, self._height):
            raise Changed("the window is not full-screen any more")

    def _ramp_error(self) -> float | None:
        """How far the monitor's gamma ramp is from a straight line, full scale 1; None where it has none."""
        try:
            ramp = self._glfw.get_gamma_ramp(self._monitor)
        except Exception:
            return None
        worst = 0.0
        for channel in ramp:
            if len(channel) < 2:
                return None
            worst = max(worst, *(abs(value - i / (len(channel) - 1)) for i, value in enumerate(channel)))
        return worst

    def _words(self) -> str:
        return "; ".join(self._said) or "it does not say why"


def _listen(commands: queue.SimpleQueue[dict[str, Any] | None], wake: list[Any]) -> None:
    """Hand on what comes on standard input. When it ends the program does, in order or, if it is stuck, by force."""
    for line in sys.stdin:
        commands.put(json.loads(line))
        for call in wake:
            call()
    commands.put(None)
    for call in wake:
        call()
    time.sleep(_GRACE_S)
    os._exit(0)


def _end_with(parent: int) -> None:
    """End the program when its parent is gone, also where another process keeps standard input open."""
    while os.getppid() == parent:
        time.sleep(0.25)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
