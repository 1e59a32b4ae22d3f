"""To list backends and to check options imports no instrument's library."""

import subprocess
import sys

from processes import LIMIT_S

LIBRARIES = (
    "pyvisa", "pyvisa_py", "serial", "pypylon", "harvesters", "genicam", "viva_genicam", "pymmcore", "pymmcore_plus",
    "slmsuite", "pylablib", "pyglet", "glfw", "mss", "screeninfo",
)  # fmt: skip

CODE = """
import sys
from drivers import available
broken = [info for info in available(probe=True) if info.broken and "needs" not in info.broken]
loaded = sorted(set(sys.modules) & set(sys.argv[1:]))
assert not broken, broken
assert not loaded, loaded
"""


def test_probing_every_backend_loads_none_of_them():
    subprocess.run([sys.executable, "-c", CODE, *LIBRARIES], check=True, timeout=LIMIT_S)
