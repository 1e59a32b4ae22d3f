# mypy: disable-error-code="no-untyped-def,no-untyped-call"
"""Images in compiled loops, by rows: a panel's transmission, its relaxation, blur, warp. Arrays are float32."""

from __future__ import annotations

import numpy as np

from groundwork.compiled import kernel

_f32 = np.float32


@kernel
def transmission(first, last, levels, table, fine, fringing, static, corner, out):
    """Response of a panel's pixels, 0 beyond its edges.

    ``out[i, j]`` is pixel (corner + (i, j)); ``table`` has ``fine`` entries per gray level, ``static`` is a factor per
    pixel. A pixel at the edge is its own neighbour.
    """
    rows, cols = levels.shape
    y0, x0 = corner
    begin, end = max(0, x0), min(x0 + out.shape[1], cols)
    drive = np.empty(cols, np.float32)
    for i in range(first, last):
        y = y0 + i
        target = out[i]
        if y < 0 or y >= rows or end <= begin:
            target[:] = _f32(0)
            continue
        target[: begin - x0] = _f32(0)
        target[end - x0 :] = _f32(0)
        seen, gain = target[begin - x0 : end - x0], static[y, begin:end]
        if fringing == 0:
            _respond(levels[y, begin:end], table, gain, seen)
        else:
            _drive(levels[max(y - 1, 0)], levels[y], levels[min(y + 1, rows - 1)], fringing, _f32(fine), drive)
            _respond(drive[begin:end], table, gain, seen)


@kernel
def _drive(above, here, below, fringing, fine, drive):
    """Drive of a row, in steps of the table, rounded by what follows."""
    own, each, last = (_f32(1) - fringing) * fine, fringing * _f32(0.25) * fine, here.size - 1
    for x in (0, last):
        beside = _f32(here[max(x - 1, 0)]) + _f32(here[min(x + 1, last)])
        drive[x] = own * _f32(here[x]) + each * (beside + _f32(above[x]) + _f32(below[x])) + _f32(0.5)
    left, middle, right, inside = here[:-2], here[1:-1], here[2:], drive[1:-1]
    over, under = above[1:-1], below[1:-1]
    for j in range(inside.size):
        near = _f32(np.int32(left[j]) + np.int32(right[j]) + np.int32(over[j]) + np.int32(under[j]))
        inside[j] = own * _f32(middle[j]) + each * near + _f32(0.5)


@kernel
def _respond(entries, table, gain, out):
    for j in range(out.size):
        out[j] = table[np.uint32(np.int32(entries[j]))] * gain[j]


@kernel
def advance(first, last, state, target, left, after):
    """Where a liquid crystal is at the end of a segment of its way from ``state`` towards ``target``.

    ``left`` (2, rows): what is left of the step then, towards bright, towards dark.
    """
    for i in range(first, last):
        _advance(state[i], target[i], (left[0, i], left[1, i]), after[i])


@kernel
def _advance(state, target, left, after):
    up, down = left
    for j in range(after.size):
        away = state[j] - target[j]
        after[j] = target[j] + away * (up if away < _f32(0) else down)


@kernel
def average(first, last, state, target, part, weight, before, mean):
    """What a segment adds to the mean over an exposure.

    ``mean = weight · before + share · target + m · (state − target)``, row by row; ``part`` (3, rows): share; m towards
    bright, towards dark.
    """
    for i in range(first, last):
        _average(state[i], target[i], (part[0, i], part[1, i], part[2, i]), weight[i], before[i], mean[i])


@kernel
def _average(state, target, part, weight, before, mean):
    share, up, down = part
    for j in range(mean.size):
        away = state[j] - target[j]
        mean[j] = weight * before[j] + share * target[j] + away * (up if away < _f32(0) else down)


@kernel
def advance_average(first, last, state, between, left, target, part, weight, before, mean):
    """`advance` from ``state`` towards ``between``, and `average` from there towards ``target``, in one pass."""
    for i in range(first, last):
        way, piece = (left[0, i], left[1, i]), (part[0, i], part[1, i], part[2, i])
        _advance_average(state[i], between[i], way, target[i], piece, weight[i], before[i], mean[i])


@kernel
def _advance_average(state, between, left, target, part, weight, before, mean):
    left_up, left_down = left
    share, up, down = part
    for j in range(mean.size):
        away = state[j] - between[j]
        away = between[j] + away * (left_up if away < _f32(0) else left_down) - target[j]
        mean[j] = weight * before[j] + share * target[j] + away * (up if away < _f32(0) else down)


@kernel
def blur(first, last, image, down, across, out):
    """Separable filter; ``out`` is smaller than ``image`` by the lengths of the two kernels less one."""
    line = np.empty(image.shape[1], np.float32)
    for i in range(first, last):
        line[:] = _f32(0)
        for k in range(0, down.size - 3, 4):
            r0, r1, r2, r3 = image[i + k], image[i + k + 1], image[i + k + 2], image[i + k + 3]
            w0, w1, w2, w3 = down[k], down[k + 1], down[k + 2], down[k + 3]
            for j in range(line.size):
                line[j] += w0 * r0[j] + w1 * r1[j] + w2 * r2[j] + w3 * r3[j]
        for k in range(down.size // 4 * 4, down.size):
            r0, w0 = image[i + k], down[k]
            for j in range(line.size):
                line[j] += w0 * r0[j]
        target = out[i]
        target[:] = _f32(0)
        for k in range(0, across.size - 3, 4):
            w0, w1, w2, w3 = across[k], across[k + 1], across[k + 2], across[k + 3]
            near = line[k:]
            for j in range(target.size):
                target[j] += w0 * near[j] + w1 * near[j + 1] + w2 * near[j + 2] + w3 * near[j + 3]
        for k in range(across.size // 4 * 4, across.size):
            w0, near = across[k], line[k:]
            for j in range(target.size):
                target[j] += w0 * near[j]


@kernel
def warp(first, last, image, corner, inverse, distortion, where, factor, out):
    """``out = factor × image`` seen through the relay, bilinear; ``image`` has a dark rim where the panel ends.

    ``inverse`` maps ideal sensor points, from the sensor's centre, to the panel; ``distortion`` is over R²; ``where``
    is the sensor point of ``out[0, 0]`` from the centre, ``corner`` the panel pixel of ``image[0, 0]``, both (y, x).
    """
    a, b, c = inverse[0, 0], inverse[0, 1], inverse[0, 2]
    d, e, f = inverse[1, 0], inverse[1, 1], inverse[1, 2]
    g, h, w = inverse[2, 0], inverse[2, 1], inverse[2, 2]
    height, width = image.shape
    highest_x, highest_y = _f32(width - 1.001), _f32(height - 1.001)
    flat = image.reshape(-1)
    n = out.shape[1]
    place, part_x, part_y = np.empty(n, np.uint32), np.empty(n, np.float32), np.empty(n, np.float32)
    for i in range(first, last):
        dy = where[0] + _f32(i)
        for j in range(n):
            dx = where[1] + _f32(j)
            stretch = _f32(1) + distortion * (dx * dx + dy * dy)
            x, y = dx * stretch, dy * stretch
            scale = _f32(1) / (g * x + h * y + w)
            u = min(max((a * x + b * y + c) * scale - corner[1], _f32(0)), highest_x)
            v = min(max((d * x + e * y + f) * scale - corner[0], _f32(0)), highest_y)
            column, row = np.int32(u), np.int32(v)
            place[j] = np.uint32(row * np.int32(width) + column)
            part_x[j], part_y[j] = u - _f32(column), v - _f32(row)
        _interpolate(flat, flat[width:], place, part_x, part_y, factor[i], out[i])


@kernel
def _interpolate(upper, lower, place, part_x, part_y, factor, out):
    for j in range(out.size):
        at, s, t = place[j], part_x[j], part_y[j]
        top = upper[at] + s * (upper[at + np.uint32(1)] - upper[at])
        bottom = lower[at] + s * (lower[at + np.uint32(1)] - lower[at])
        out[j] = (top + t * (bottom - top)) * factor[j]


@kernel
def spread(first, last, image, along_x, along_y, out):
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
