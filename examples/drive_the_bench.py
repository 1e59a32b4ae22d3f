"""Drive the mock bench by hand: show a stripe, arm the camera, fetch the frames. About five seconds.

The devices are found by the names of their backends, as a station file names them; with real instruments only names and
options differ. The first frames show the panel while it is still changing: settling is counted in frames.
"""

from contextlib import ExitStack

import numpy as np

from drivers import OpenContext, open_device

SMALL = {"rows": 256, "cols": 320}
BENCH = {"mock": {"slm": SMALL, "display": SMALL, "camera": {"rows": 310, "cols": 380}}}


def main() -> None:
    context = OpenContext(BENCH)  # what the four devices share: one mock bench
    with ExitStack() as stack:
        source, display, slm, camera = (
            stack.enter_context(open_device(f"mock.{name}", name, {}, context))
            for name in ("source", "display", "slm", "camera")
        )
        identity = camera.identify()
        print(f"{identity.vendor} {identity.model}: {camera.shape} px, {camera.bit_depth} bit")

        camera.exposure_s = 0.010
        source.on()
        display.show(np.full(display.shape, display.levels - 1, np.uint16))
        stripe = np.zeros(slm.shape, np.uint16)
        stripe[:, 140:180] = slm.levels - 1
        slm.show(stripe)

        camera.arm(6)  # from the first exposure that begins now on, settled or not
        block = camera.fetch(timeout_s=5.0)
        print("mean of each frame after the change [DN]:", block.frames.mean(axis=(1, 2)).round(1))

        camera.arm(4, skip=4)  # four frames pass unread, then four are kept
        settled = camera.fetch(timeout_s=5.0)
        columns = settled.frames.mean(axis=(0, 1))
        lit = np.flatnonzero(columns > (columns.min() + columns.max()) / 2)
        print(f"frames {settled.sequence[0]} … {settled.sequence[-1]}: light on camera columns {lit[0]} … {lit[-1]}")
        source.off()


if __name__ == "__main__":
    main()
