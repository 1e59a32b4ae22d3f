"""No command writes over what it reads, nor, unless asked, over a file that it did not write itself."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from labctl.archive import outputs
from labctl.archive.outputs import EDITED, PAGE, PICTURE, PREDICTIONS, require_output, require_output_folder
from labctl.errors import LabError, NotWritable, StorageError
from labctl.instruments.live import Look, png
from labctl.instruments.picture import numbers
from labctl.report.document import STYLE, save_figure, write_page

PAGE_WRITING = [
    ("energy", "--shape", "gpt2", "--report"),
    ("simulate", "ideal", "--report"),
    ("doctor", "--report"),
    ("sample", "-o"),
    ("station", "init"),
    ("align", "--bench", "mock", "--figure"),
    ("devices", "live", "camera", "--once", "--bench", "mock", "--save"),
    ("drift", "show", "--bench", "mock", "--figure"),
    ("service", "install", "--as", "windows", "--bench", "mock", "--output"),
]
"""Commands that write a file, refused before they do anything."""
NAMES = {"align": "x.png", "devices": "x.png", "drift": "x.png", "sample": "x.h5"}


def target_of(command: tuple[str, ...], folder: Path) -> Path:
    return folder / NAMES.get(command[0], "x.html")


def everything(folder: Path) -> list[tuple[str, int, int]]:
    """Names, times and sizes of what is there; the log of a command apart."""
    found = [path for path in folder.rglob("*") if "state" not in path.parts]
    return sorted((str(path), os.lstat(path).st_mtime_ns, os.lstat(path).st_size) for path in found)


def file(path: Path) -> None:
    path.write_bytes(b"months of work\n")


def folder(path: Path) -> None:
    path.mkdir()


def pipe(path: Path) -> None:
    os.mkfifo(path)


def link_to_a_file(path: Path) -> None:
    file(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def device(path: Path) -> None:
    path.symlink_to("/dev/full")


def below_a_file(path: Path) -> None:
    path.parent.rmdir()
    path.parent.write_bytes(b"")


@pytest.mark.parametrize("command", PAGE_WRITING, ids=lambda command: command[0])
@pytest.mark.parametrize(
    ("lies_there", "code", "words"),
    [
        (file, 2, "the file exists already"),
        (link_to_a_file, 2, "the file exists already"),
        (folder, 2, "there is a folder where a file is wanted"),
        (pipe, 2, "seen a pipe (FIFO)"),
        (device, 2, "seen a device"),
        (below_a_file, 2, "there is a file where a folder is wanted"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_lies_there_is_spared_and_named(
    command: tuple[str, ...],
    lies_there: Callable[[Path], None],
    code: int,
    words: str,
    labctl: Callable[..., tuple[int, str, str]],
    here: Path,
) -> None:
    (here / "out").mkdir()
    path = target_of(command, here / "out")
    lies_there(path)
    before = everything(here)
    found, _, err = labctl(*command, path)
    assert (found, words in " ".join(err.split())) == (code, True), err
    assert before == everything(here)


@pytest.mark.parametrize("command", [("energy", "--shape", "gpt2", "--report"), ("station", "init")])
def test_folders_of_an_output_are_made(
    command: tuple[str, ...], labctl: Callable[..., tuple[int, str, str]], here: Path
) -> None:
    assert labctl(*command, "new/deep/x.html")[0] == 0
    assert (here / "new" / "deep" / "x.html").is_file()


@pytest.mark.parametrize(
    ("command", "names"),
    [
        (("scaling", "ideal", "--report", "-o"), ("scaling.json", "law.json", "report.html", "curves.csv")),
        (("scaling", "ideal", "--arms", "arms", "-o"), ("family.json", "law.json")),
        (("reproduce", "optical-transformers", "-o"), ("reproduction.json", "report.html")),
        (("train", "--width", "32"), ("optical-gpt-d32.safetensors", "optical-gpt-d32.json")),
    ],
    ids=["scaling", "law", "reproduce", "train"],
)
def test_files_of_somebody_else_in_a_folder_for_results_are_spared(
    command: tuple[str, ...], names: tuple[str, ...], labctl: Callable[..., tuple[int, str, str]], here: Path
) -> None:
    for name in names:
        results = here / name.partition(".")[0]
        results.mkdir(exist_ok=True)
        (results / name).write_bytes(b"months of work\n")
        code, _, err = labctl(*command, results)
        assert (code, "the file exists already" in err, name in err) == (2, True, True), err
        assert (results / name).read_bytes() == b"months of work\n"
        (results / name).unlink()
    (here / "taken").write_bytes(b"months of work\n")
    code, _, err = labctl(*command, here / "taken")
    assert (code, "there is a file where a folder is wanted" in err) == (2, True), err


@pytest.mark.parametrize(
    ("read", "command"),
    [
        ("text", ("simulate", "ideal", "--text", "x.html", "--report", "x.html", "--force")),
        ("text", ("sample", "--text", "x.html", "-o", "hard.html", "--force")),
        ("table", ("energy", "--table", "x.html", "--report", "link.html", "--force")),
        ("model", ("energy", "x.html", "--report", "./hard.html", "--force")),
        ("station", ("doctor", "--bench", "x.html", "--report", "x.html", "--force")),
        ("station", ("align", "--bench", "x.html", "--figure", "hard.html", "--force")),
    ],
)
def test_force_never_writes_over_what_is_read(
    read: str, command: tuple[str, ...], labctl: Callable[..., tuple[int, str, str]], here: Path
) -> None:
    assert labctl("station", "init", "x.html")[0] == 0
    (here / "link.html").symlink_to("x.html")
    os.link(here / "x.html", here / "hard.html")
    before = (here / "x.html").read_bytes()
    code, _, err = labctl(*command)
    assert (code, "written over what it is made from" in err) == (2, True), err
    assert (before, (here / "link.html").is_symlink()) == ((here / "x.html").read_bytes(), True)


def test_own_page_is_replaced_and_force_replaces_any_file(
    labctl: Callable[..., tuple[int, str, str]], here: Path, undrawn: None
) -> None:
    for again in (False, True):
        assert labctl("energy", "--shape", "gpt2", "--report", "x.html")[0] == 0, again
    (here / "y.html").write_text("mine")
    assert labctl("energy", "--shape", "gpt2", "--report", "y.html")[0] == 2
    assert labctl("energy", "--shape", "gpt2", "--report", "y.html", "--force")[0] == 0
    assert (here / "y.html").read_bytes() == (here / "x.html").read_bytes()
    assert [Path(name).name for name, *_ in everything(here)] == ["x.html", "y.html"]


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of energy without their figures, which take seconds."""
    monkeypatch.setattr("labctl.studies.energy.gallery", lambda *_: ())
    monkeypatch.setattr("labctl.report.energy.write_energy_page", lambda path, *_: write_page(path, "energy", ["…"]))


@pytest.mark.parametrize("ending", [".png", ".svg", ".pdf"])
def test_own_picture_is_known(ending: str, tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    save_figure(path := tmp_path / f"a{ending}", Figure(), ending)
    require_output(path, PICTURE)
    with pytest.raises(LabError, match="exists already"):
        require_output(path, PAGE)


def test_own_frame_of_a_camera_is_known_and_holds_its_counts(tmp_path: Path) -> None:
    import cv2

    frame = np.arange(12, dtype=np.uint16).reshape(3, 4) * 300
    (tmp_path / "a.png").write_bytes(png(Look(frame, numbers(frame, 4095), 1, 0), 12))
    require_output(tmp_path / "a.png", PICTURE)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED), frame)


def test_own_page_is_known_by_its_style(tmp_path: Path) -> None:
    assert PAGE.marks[0] in STYLE.encode()
    require_output(write_page(tmp_path / "a.html", "title", ["x" * 9_000_000]), PAGE)


def test_mark_at_the_end_of_a_large_file_is_found(tmp_path: Path) -> None:
    path = tmp_path / "large.npz"
    path.write_bytes(bytes(range(256)) * 2**16 + PREDICTIONS.marks[0])
    assert path.stat().st_size > 2 * outputs._LOOKED_AT
    require_output(path, PREDICTIONS)


def test_file_in_a_folder_that_is_read_is_spared(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "manifest.jsonl").write_bytes(b"{}\n")
    with pytest.raises(LabError, match="written over what it is made from"):
        require_output(tmp_path / "run" / "manifest.jsonl", PAGE, [tmp_path / "run"], force=True)
    require_output(tmp_path / "run" / "new.html", PAGE, [tmp_path / "run"])


def test_socket_and_impossible_names_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as there:
        there.bind("s")
        with pytest.raises(OSError, match="not a regular file"):
            require_output(tmp_path / "s", PAGE, force=True)
    for name in ("a" * 300, "a\0b", "loop"):
        (tmp_path / "loop").is_symlink() or (tmp_path / "loop").symlink_to("loop")
        with pytest.raises(StorageError):
            require_output(Path(name), PAGE, force=True)


def test_place_that_cannot_be_written_is_refused_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever runs the tests may be root, for whom nothing is forbidden: the system's answer is made up."""
    (tmp_path / "there.toml").write_bytes(b"")
    monkeypatch.setattr(outputs.os, "access", lambda path, mode: False)
    for name in ("new.toml", "there.toml", "missing/folder/new.toml"):
        with pytest.raises(NotWritable, match="cannot write here"):
            require_output(tmp_path / name, EDITED, force=True)
    with pytest.raises(NotWritable):
        require_output_folder(tmp_path / "new")


def test_disk_that_fills_leaves_no_half_file(
    labctl: Callable[..., tuple[int, str, str]], here: Path, monkeypatch: pytest.MonkeyPatch, undrawn: None
) -> None:
    assert labctl("energy", "--shape", "gpt2", "--report", "x.html")[0] == 0
    before = (here / "x.html").read_bytes()

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as stream:
            stream.write(data[:100])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    for name in ("x.html", "new/y.html"):
        code, _, err = labctl("energy", "--shape", "gpt2", "--report", name)
        assert (code, "the disk is full" in err) == (22, True), err
    assert (here / "x.html").read_bytes() == before
    assert [Path(name).name for name, *_ in everything(here)] == ["new", "x.html"]
