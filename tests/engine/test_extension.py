"""A node of the graph and a device role, each added by one new file and one line, in a copy of the suite.

A foreign file format is one new file and one line, too: `tests/labctl/test_import_readers.py` adds one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = "labctl", "drivers", "calibration", "groundwork", "mock_hardware", "simulation"


@dataclass(frozen=True)
class Copy:
    """A copy of the suite that commands are run from, and the archive that they write to."""

    folder: Path
    station: Path

    @property
    def runs(self) -> Path:
        """The archive."""
        return self.folder / "runs"

    def add_line(self, file: str, line: str, after: str) -> None:
        """Put one line into a file, below the one line that ends with ``after``."""
        path = self.folder / file
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        (place,) = (i for i, text in enumerate(lines) if text.rstrip().endswith(after))
        path.write_text("".join([*lines[: place + 1], line + "\n", *lines[place + 1 :]]), encoding="utf-8")

    def runs_made(self) -> list[Path]:
        """Folders of the runs, oldest first."""
        return sorted(path.parent for path in self.runs.rglob("run.json"))

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A Python that imports the copy, run to its end."""
        path = os.pathsep.join([str(self.folder), os.environ["PYTHONPATH"]])  # of the engine's tests: nothing is drawn
        environment = {**os.environ, "PYTHONPATH": path}
        return subprocess.run(
            [sys.executable, *arguments], cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )

    def labctl(self, *words: str) -> Any:
        """The document that a command prints."""
        done = self.python("-m", "labctl", *words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def labctl_in_one(self, *commands: tuple[str, ...]) -> list[Any]:
        """The documents that commands print one after the other in one process, which is quicker."""
        code = (
            "import sys; from labctl.__main__ import main\n"
            "for words in eval(sys.argv[1]):\n"
            "    code = main([*words, '--json'])\n"
            "    if code: sys.exit(code)\n"
        )
        done = self.python("-c", code, repr(commands))
        assert done.returncode == 0, done.stderr
        documents, rest = [], done.stdout.strip()
        while rest:
            document, end = json.JSONDecoder().raw_decode(rest)
            documents.append(document)
            rest = rest[end:].strip()
        return documents

    @property
    def bench(self) -> tuple[str, ...]:
        """Options of commands that have to do with the bench."""
        return "--bench", str(self.station), "--runs", str(self.runs)

    def states(self, document: Any) -> dict[str, str]:
        """What became of each node of the graph, by a summary."""
        return {node["name"]: node["state"] for node in document["nodes"] if node["name"] != "report"}


@pytest.fixture
def copy(tmp_path: Path, small_file: Path) -> Copy:
    """Everything as it is; what is compiled is copied along, for to compile it takes longer than the tests."""
    folder = tmp_path / "suite"
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.pyc.*"))
    (folder / "data").symlink_to(ROOT / "data")
    station = tmp_path / "station.toml"
    shutil.copy(small_file, station)
    made = Copy(folder, station)
    where = f"import importlib as i; print(*(i.import_module(n).__file__ for n in {PACKAGES}), sep='\\n')"
    imported = made.python("-c", where).stdout.split()
    assert len(imported) == len(PACKAGES)
    assert all(Path(file).is_relative_to(folder) for file in imported)
    return made


NODE = '''
"""Node *evenness*: how even the light of the outputs is when everything is open."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from calibration.frames.probes import ProbePlan
from calibration.frames.scan import PanelLevels, Scan
from labctl.nodes.evidence import Evidence
from labctl.nodes.lut import LUT_NODE
from labctl.nodes.node import HARDWARE, Results, Setting, Titled
from labctl.nodes.registration import REGISTRATION_NODE
from labctl.nodes.scans import ScanNode, clean_scan
from labctl.summary import Metric

FRAMES = 8
SPREAD_MAX = 0.5


class EvennessNode(ScanNode[NDArray[np.float64]]):
    """(M,) light of each output over the mean."""

    name = "evenness"
    parents = (LUT_NODE,)
    max_age_h = 24.0
    keys = (*HARDWARE, "acquisition.exposure_s")
    scans = ("evenness",)

    def patterns(self, shape: tuple[int, int], plan: ProbePlan, levels: PanelLevels) -> Iterator[Scan]:
        slm = np.full((1, *shape), levels.slm_bright, levels.slm_dtype)
        display = np.full((FRAMES, shape[1]), levels.display_bright, levels.display_dtype)
        yield Scan(slm, np.zeros(FRAMES, np.int64), display)

    def analyse(self, evidence: Evidence, results: Results, setting: Setting, metrics: list[Metric]):
        scan = clean_scan(evidence, "evenness", results[REGISTRATION_NODE], setting.station.limits)
        light = scan.dn.mean(axis=0)
        relative = light / light.mean()
        metrics.append(Metric.judge("evenness_spread", float(relative.std()), "1", maximum=SPREAD_MAX))
        return relative

    def figures(self, evidence: Evidence, results: Results, setting: Setting) -> Iterator[Titled]:
        figure = Figure(figsize=(4, 2))
        figure.subplots().plot(results[self])
        yield Titled("Evenness of the outputs", "Light of each output over the mean.", figure)


EVENNESS_NODE = EvennessNode()
'''


@pytest.mark.timeout(300)
@pytest.mark.slow
def test_a_node_is_one_new_file_and_one_line(copy: Copy) -> None:
    (copy.folder / "labctl/nodes/evenness.py").write_text(NODE.lstrip(), encoding="utf-8")
    copy.add_line("labctl/nodes/registry.py", '        "evenness:EVENNESS_NODE",', after='"lut:LUT_NODE",')

    planned = {node["name"]: node for node in copy.labctl("plan", *copy.bench)["nodes"]}
    assert planned["evenness"]["because"] == "never measured"
    assert planned["evenness"]["frames"] == 8

    first = copy.labctl("calibrate", "evenness", *copy.bench)
    assert copy.states(first) == dict.fromkeys(("dark", "timing", "registration", "lut", "evenness"), "done")
    (metric,) = (m for m in first["metrics"] if m["name"] == "evenness_spread")
    assert (metric["verdict"], metric["limit"]) == ("ok", {"min": None, "max": 0.5})
    assert 0.001 < metric["value"] < 0.5
    folder = copy.runs_made()[-1]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Evenness of the outputs" in page

    (folder / "report.html").unlink()
    words = ("validate", "latest"), ("report", "latest"), ("calibrate", "evenness")
    again, _, second = copy.labctl_in_one(*((*command, *copy.bench) for command in words))
    assert copy.states(again) == copy.states(first)
    (refitted,) = (m for m in again["metrics"] if m["name"] == "evenness_spread")
    assert refitted["value"] == metric["value"]
    assert "Evenness of the outputs" in (folder / "report.html").read_text(encoding="utf-8")
    assert copy.states(second) == {**dict.fromkeys(copy.states(first), "kept"), "evenness": "done"}


SHUTTER = '''
"""What blocks the light in front of the source, and one that writes down what it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from drivers.backend import Backend
from drivers.options import Checked
from drivers.protocols import Device, Identity, OpenContext
from drivers.registry import open_device


class Shutter(Device, Protocol):
    """A blade that is open or closed."""

    is_open: bool

    def shut(self, timeout_s: float = 5.0) -> None: ...


@dataclass(frozen=True)
class Options(Checked):
    """Where it writes what was asked of it."""

    notes: str


class NotingShutter:
    """A shutter."""

    def __init__(self, name: str, notes: Path) -> None:
        self.name, self.is_open, self._notes = name, True, notes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self.shut()

    def identify(self) -> Identity:
        return Identity("acme", "Blade", "7")

    def snapshot(self, timeout_s: float = 5.0) -> dict[str, Any]:
        return {"is_open": self.is_open}

    def safe_state(self, timeout_s: float = 5.0) -> None:
        self.shut()
        with self._notes.open("a") as notes:
            notes.write(f"{self.name}\\n")

    def shut(self, timeout_s: float = 5.0) -> None:
        self.is_open = False


def _noting(kind: str) -> Backend[Options]:
    """The mock bench's device of that kind, which writes down when it is made safe."""

    def open_noting(name: str, options: Options, context: OpenContext) -> Device:
        device: Any = open_device(f"mock.{kind}", name, {}, context)
        make_safe = device.safe_state

        def noted(timeout_s: float = 5.0) -> None:
            make_safe(timeout_s)
            with Path(options.notes).open("a") as notes:
                notes.write(f"{name}\\n")

        device.safe_state = noted
        return device

    return Backend(f"acme.{kind}", (kind,), Options, open_noting)


SHUTTER = Backend(
    "acme.shutter", ("shutter",), Options, lambda name, options, context: NotingShutter(name, Path(options.notes))
)
SOURCE = _noting("source")
SLM = _noting("slm")
'''

STATION = """
[devices.blade]
role = "shutter"
backend = "acme.shutter"
options.notes = "{notes}"
[devices.laser]
role = "source"
backend = "acme.source"
options.notes = "{notes}"
[devices.panel]
role = "slm"
backend = "acme.slm"
options.notes = "{notes}"
"""

ENTRY_POINTS = """
[labctl.drivers]
acme.shutter = drivers.shutter:SHUTTER
acme.source = drivers.shutter:SOURCE
acme.slm = drivers.shutter:SLM
"""


@pytest.mark.timeout(300)
def test_a_device_role_is_one_new_file_and_one_line(copy: Copy, tmp_path: Path) -> None:
    """The file holds the role's protocol; its backend, which any package may install, lies in it, too."""
    (copy.folder / "drivers/shutter.py").write_text(SHUTTER.lstrip(), encoding="utf-8")
    copy.add_line(
        "drivers/protocols.py",
        '    "shutter": Role("drivers.shutter:Shutter", many=True),',
        after='"source": Role("drivers.protocols:LightSource"),',
    )
    installed = copy.folder / "acme-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text(ENTRY_POINTS)
    notes = tmp_path / "notes.txt"
    with copy.station.open("a") as station:
        station.write(STATION.format(notes=notes))

    listed = {backend["name"]: backend for backend in copy.labctl("devices", "list")["backends"]}
    assert (listed["acme.shutter"]["roles"], listed["acme.shutter"]["broken"]) == (["shutter"], None)
    assert copy.labctl("station", "check", "--bench", str(copy.station))["failed"] == 0
    copy.labctl("calibrate", "dark", *copy.bench)
    (folder,) = copy.runs_made()
    found = json.loads((folder / "snapshot-start.json").read_bytes())["devices"]["blade"]
    assert found == {
        "identity": {"vendor": "acme", "model": "Blade", "serial": "7", "firmware": ""},
        "settings": {"is_open": True},
    }
    # made safe together, in the table's order: the source, then what the line puts behind it, then the panels
    assert notes.read_text().split()[:3] == ["laser", "blade", "panel"]

    copy.station.write_text(copy.station.read_text().replace("acme.shutter", "acme.slm"))
    refused = copy.python("-m", "labctl", "station", "check", "--bench", str(copy.station))
    assert refused.returncode == 2
    assert "a Shutter for the role shutter" in refused.stdout
