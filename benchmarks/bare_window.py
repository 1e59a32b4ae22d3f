"""Patterns on one monitor by GLFW and OpenGL and nothing else: ``python benchmarks/bare_window.py MONITOR COUNT``.

Prints how many in a second, one swap for each refresh at most [Hz].
"""

from __future__ import annotations

import os
import sys
import time
from itertools import cycle

import numpy as np
from _compare import repeated

CORNERS = ((0, 1, -1, -1), (1, 1, 1, -1), (1, 0, 1, 1), (0, 0, -1, 1))


def main(name: str, count: int) -> float:
    os.environ["PYGLFW_LIBRARY_VARIANT"], os.environ["PYOPENGL_PLATFORM"] = "x11", "glx"
    import glfw
    from OpenGL import GL as gl

    glfw.init()
    monitor = next(one for one in glfw.get_monitors() if glfw.get_monitor_name(one).decode() == name)
    mode = glfw.get_video_mode(monitor)
    columns, rows, period_s = mode.size.width, mode.size.height, 1 / mode.refresh_rate
    window = glfw.create_window(columns, rows, "bare", monitor, None)
    glfw.make_context_current(window)
    glfw.swap_interval(1)
    gl.glPixelStorei(gl.GL_UNPACK_ALIGNMENT, 1)
    gl.glEnable(gl.GL_TEXTURE_2D)
    gl.glTexEnvi(gl.GL_TEXTURE_ENV, gl.GL_TEXTURE_ENV_MODE, gl.GL_REPLACE)
    gl.glBindTexture(gl.GL_TEXTURE_2D, gl.glGenTextures(1))
    for way in (gl.GL_TEXTURE_MIN_FILTER, gl.GL_TEXTURE_MAG_FILTER):
        gl.glTexParameteri(gl.GL_TEXTURE_2D, way, gl.GL_NEAREST)
    patterns = cycle(np.random.default_rng(0).integers(0, 256, (4, rows, columns), np.uint8))
    swapped_s = [0.0]

    def once() -> None:
        gl.glTexImage2D(
            gl.GL_TEXTURE_2D,
            0,
            gl.GL_LUMINANCE8,
            columns,
            rows,
            0,
            gl.GL_LUMINANCE,
            gl.GL_UNSIGNED_BYTE,
            next(patterns),
        )
        gl.glBegin(gl.GL_QUADS)
        for u, v, x, y in CORNERS:
            gl.glTexCoord2f(u, v)
            gl.glVertex2f(x, y)
        gl.glEnd()
        gl.glFinish()
        time.sleep(max(0.0, swapped_s[0] + period_s - time.monotonic()))
        glfw.swap_buffers(window)
        gl.glFinish()
        swapped_s[0] = time.monotonic()
        glfw.poll_events()

    try:
        return repeated(once, count)
    finally:
        glfw.terminate()


if __name__ == "__main__":
    print(main(sys.argv[1], int(sys.argv[2])))
