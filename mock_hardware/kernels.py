"""Images in compiled loops, by rows: a panel's transmission, its relaxation, blur, warp. Arrays are float32, C order."""

from __future__ import annotations

import numpy as np

from mock_hardware.compiled import kernel

_f32 = np.float32


@kernel
def transmission(first, last, levels, table, fine, fringing, static, corner, out):  # type: ignore[no-untyped-def]
    """Response of a panel's pixels, 0 beyond its edges.

    ``out[i, j]`` is pixel (corner + (i, j)); ``table`` has ``fine`` entries per gray level, ``static`` is a factor per
    pixel. A pixel at the edge is its own neighbour.
    """
    rows, cols = levels.shape
    y0, x0 = corner
    left, right = max(0, -x0), min(out.shape[1], cols - x0)
    own, neighbours = (_f32(1) - fringing) * _f32(fine), fringing * _f32(0.25) * _f32(fine)
    for i in range(first, last):
        y = y0 + i
        target = out[i]
        if y < 0 or y >= rows or right <= left:
            target[:] = _f32(0)
            continue
        target[:left] = _f32(0)
        target[right:] = _f32(0)
        gain, here = static[y], levels[y]
        if fringing == 0:
            for j in range(left, right):
                target[j] = table[np.int64(here[x0 + j]) * fine] * gain[x0 + j]
            continue
        above, below = levels[max(y - 1, 0)], levels[min(y + 1, rows - 1)]
        for j in range(left, right):
            target[j] = _f32(above[x0 + j]) + _f32(below[x0 + j])
        for j in (left, right - 1):
            x = x0 + j
            beside = _f32(here[max(x - 1, 0)]) + _f32(here[min(x + 1, cols - 1)])
            target[j] = own * _f32(here[x]) + neighbours * (target[j] + beside)
        for j in range(left + 1, right - 1):
            x = x0 + j
            beside = _f32(here[x - 1]) + _f32(here[x + 1])
            target[j] = own * _f32(here[x]) + neighbours * (target[j] + beside)
        for j in range(left, right):
            target[j] = table[np.int32(target[j] + _f32(0.5))] * gain[x0 + j]


@kernel
def relax(first, last, state, target, factors, mean):  # type: ignore[no-untyped-def]
    """One segment of a liquid crystal's way: ``mean += share · target + m · (state − target)``, state moves on.

    ``factors`` (5, rows): share; m towards bright, towards dark; what is left at its end, bright, dark.
    """
    for i in range(first, last):
        share, up, down, left_up, left_down = factors[:, i]
        now, goal, total = state[i], target[i], mean[i]
        for j in range(now.size):
            away = now[j] - goal[j]
            rising = away < _f32(0)
            total[j] += share * goal[j] + away * (up if rising else down)
            now[j] = goal[j] + away * (left_up if rising else left_down)


@kernel
def settle(first, last, state, target, factors, mean):  # type: ignore[no-untyped-def]
    """`relax` from a panel at rest, whose ``state`` stays as it is, to the end of the exposure."""
    for i in range(first, last):
        share, up, down = factors[0, i], factors[1, i], factors[2, i]
        rest = _f32(1) - share
        now, goal, total = state[i], target[i], mean[i]
        for j in range(now.size):
            away = now[j] - goal[j]
            total[j] = rest * now[j] + share * goal[j] + away * (up if away < _f32(0) else down)


@kernel
def blur(first, last, image, down, across, out):  # type: ignore[no-untyped-def]
    """Separable filter; ``out`` is smaller than ``image`` by the lengths of the two kernels less one."""
    line = np.empty(image.shape[1], np.float32)
    height, width = out.shape
    for i in range(first, last):
        source, weight = image[i], down[0]
        for j in range(line.size):
            line[j] = weight * source[j]
        for k in range(1, down.size):
            source, weight = image[i + k], down[k]
            for j in range(line.size):
                line[j] += weight * source[j]
        target, weight = out[i], across[0]
        for j in range(width):
            target[j] = weight * line[j]
        for k in range(1, across.size):
            weight, shifted = across[k], line[k:]
            for j in range(width):
                target[j] += weight * shifted[j]


@kernel
def warp(first, last, image, corner, inverse, lens, where, factor, out):  # type: ignore[no-untyped-def]
    """``out = factor × image`` seen through the relay, bilinear; ``image`` has a dark rim where the panel ends.

    ``inverse`` maps ideal sensor points to the panel, ``lens`` is (centre x, y, distortion / R²), ``where`` the sensor
    pixel of ``out[0, 0]`` and ``corner`` the panel pixel of ``image[0, 0]``, both (y, x).
    """
    a, b, c = inverse[0, 0], inverse[0, 1], inverse[0, 2]
    d, e, f = inverse[1, 0], inverse[1, 1], inverse[1, 2]
    g, h, w = inverse[2, 0], inverse[2, 1], inverse[2, 2]
    centre_x, centre_y, distortion = lens
    height, width = image.shape
    highest_x, highest_y = width - 1.001, height - 1.001
    flat = image.reshape(-1)
    n = out.shape[1]
    place, part_x, part_y = np.empty(n, np.int32), np.empty(n, np.float32), np.empty(n, np.float32)
    for i in range(first, last):
        dy = where[0] + i - centre_y
        for j in range(n):
            dx = where[1] + j - centre_x
            stretch = 1.0 + distortion * (dx * dx + dy * dy)
            x, y = centre_x + dx * stretch, centre_y + dy * stretch
            scale = 1.0 / (g * x + h * y + w)
            u = min(max((a * x + b * y + c) * scale - corner[1], 0.0), highest_x)
            v = min(max((d * x + e * y + f) * scale - corner[0], 0.0), highest_y)
            column, row = np.int32(u), np.int32(v)
            place[j] = row * width + column
            part_x[j], part_y[j] = _f32(u - column), _f32(v - row)
        gain, target = factor[i], out[i]
        for j in range(n):
            at, s, t = np.uint32(place[j]), part_x[j], part_y[j]
            top = flat[at] + s * (flat[at + 1] - flat[at])
            bottom = flat[at + width] + s * (flat[at + width + 1] - flat[at + width])
            target[j] = (top + t * (bottom - top)) * gain[j]


@kernel
def spread(first, last, image, along_x, along_y, out):  # type: ignore[no-untyped-def]
    """Each pixel gives ``(along_x[j] + along_y[i]) / 2`` of its light to each of its four neighbours.

    That adds ``along_x[j] + along_y[i]`` to the variance of the point-spread function along each axis. ``out`` is one
    pixel smaller on each side; what leaves one pixel arrives in another, so no light is lost or made.
    """
    for i in range(first, last):
        above, here, below, target = image[i], image[i + 1], image[i + 2], out[i]
        share_above, share_here, share_below = along_y[i], along_y[i + 1], along_y[i + 2]
        for j in range(target.size):
            x = j + 1
            near = (along_x[x - 1] + share_here) * here[x - 1] + (along_x[x + 1] + share_here) * here[x + 1]
            near += (along_x[x] + share_above) * above[x] + (along_x[x] + share_below) * below[x]
            target[j] = here[x] + _f32(0.5) * near - _f32(2) * (along_x[x] + share_here) * here[x]
