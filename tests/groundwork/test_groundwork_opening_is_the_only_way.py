"""Files are opened by `groundwork.opening`: whoever opens one in another way stands here with the reason."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("labctl", "drivers", "calibration", "mock_hardware", "simulation", "groundwork")
OPENERS = {
    "open", "read_text", "read_bytes", "load_file", "safe_open", "File", "ZipFile", "fromfile", "memmap", "loadtxt",
    "genfromtxt", "loadmat", "whosmat", "imread", "imreadmulti", "GGUFReader", "ParquetFile", "read_parquet",
    "read_csv",
}  # fmt: skip
"""Names of functions that open a file by its path."""
READS = {"r", "rb", "rt"}
OF_MODULES = {
    "np.load", "numpy.load", "torch.load", "json.load", "tomllib.load", "tomllib.loads", "pickle.load", "pickle.loads",
}  # fmt: skip
OURSELVES = "our own code and data, which nobody hands over"
SYSTEM = "of the operating system, or written by another process of ours on this machine"
CHECKED = "has been opened by groundwork.opening, or looked through, just before"
WRITTEN = "it writes"
BETWEEN = "from the parent or the child, by a private pair of sockets or a pipe"
ALLOWED = {
    "calibration/statistics/tensors.py": ({"File"}, WRITTEN),
    "drivers/cameras/replay.py": ({"imread"}, CHECKED),
    "drivers/libraries/micromanager.py": ({"read_text"}, SYSTEM),
    "drivers/libraries/xserver.py": ({"read_text"}, SYSTEM),
    "drivers/resources.py": ({"open"}, "a parameter of that name"),
    "labctl/archive/images.py": ({"File"}, WRITTEN),
    "groundwork/compiled.py": ({"read_bytes"}, OURSELVES),
    "groundwork/memory.py": ({"read_text"}, SYSTEM),
    "labctl/cli/service.py": ({"read_text"}, SYSTEM),
    "labctl/cli/station.py": ({"read_text"}, OURSELVES),
    "labctl/doctor/check.py": ({"read_text"}, SYSTEM),
    "labctl/doors/nexus.py": ({"File"}, WRITTEN),
    "labctl/engine/analysis_worker.py": ({"pickle.loads"}, BETWEEN),
    "labctl/engine/apart.py": ({"pickle.loads"}, BETWEEN),
    "labctl/engine/code.py": ({"read_bytes", "read_text"}, OURSELVES),
    "labctl/foreign/files/delimited.py": ({"loadtxt"}, "lines that have been read"),
    "labctl/foreign/files/hdf5.py": ({"File"}, CHECKED),
    "labctl/foreign/files/matlab.py": ({"loadmat", "whosmat"}, CHECKED),
    "labctl/foreign/files/npy.py": ({"np.load"}, CHECKED),
    "labctl/foreign/files/parquet.py": ({"ParquetFile"}, CHECKED),
    "labctl/foreign/files/tiff.py": ({"imreadmulti"}, CHECKED),
    "labctl/instruments/contract_run.py": ({"json.load"}, BETWEEN),
    "labctl/locks.py": ({"read_text"}, SYSTEM),
    "labctl/night/installed.py": ({"read_text"}, SYSTEM),
    "labctl/studies/held_out.py": ({"read_bytes"}, OURSELVES),
    "labctl/studies/reproduce/article.py": ({"read_bytes"}, OURSELVES),
    "simulation/models/rope_factors.py": ({"GGUFReader"}, CHECKED),
    "simulation/scaling/fingerprint.py": ({"read_text"}, OURSELVES),
}


def reads(call: ast.Call) -> bool:
    """Whether a method that is called ``open`` opens a path for reading: devices and stations have one, too."""
    modes = [value.value for value in call.args[:1] if isinstance(value, ast.Constant)]
    return bool(READS & {*modes}) if call.args else any(word.arg in ("encoding", "newline") for word in call.keywords)


def calls(path: Path) -> set[str]:
    """What a module calls that opens a file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        whole = ast.unparse(node.func)
        last = whole.rpartition(".")[2]
        ours = whole == "read_text" or (whole.endswith(".open") and not reads(node))
        if whole in OF_MODULES or (last in OPENERS and not ours):
            found.add(whole if whole in OF_MODULES else last)
    return found


def test_files_are_opened_in_one_place() -> None:
    others = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if not name.startswith("groundwork/opening/") and (seen := calls(path)):
                others[name] = seen
    assert others == {name: allowed for name, (allowed, _) in ALLOWED.items()}
