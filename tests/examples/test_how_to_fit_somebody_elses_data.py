"""The page on somebody else's data: its script makes the files that it names, and every line works when it is typed."""

from __future__ import annotations

import json
import re
import runpy
import shlex
from pathlib import Path

import pytest

from labctl.__main__ import main
from labctl.foreign.files.formats import FORMATS
from labctl.foreign.files.values import NOT_FINITE

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "fit-somebody-elses-data.md"
TEXT = PAGE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the script of the page was run."""
    folder = tmp_path_factory.mktemp("page")
    code = re.search(r"^```python\n# make_files.py\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    assert code is not None
    (folder / "make_files.py").write_text(code[1], encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        runpy.run_path("make_files.py")
    return folder


def lines() -> list[str]:
    """What is typed: the lines of the blocks, and whole commands in the table of files."""
    fences = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    blocks = [block for language, block in fences if not language]
    in_table = re.findall(r"^\| .* `(labctl [^`]+)` \|$", TEXT, re.MULTILINE)
    return [*in_table, *(line for block in blocks for line in block.splitlines())]


def test_every_line_of_the_page_works_when_it_is_typed(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(here)
    monkeypatch.setenv("XDG_STATE_HOME", str(here / "state"))
    monkeypatch.setenv("LOCALAPPDATA", str(here / "state"))
    typed = list(dict.fromkeys(lines()))
    assert len(typed) > 12
    calibration, said = "", {}
    for line in typed:
        words = shlex.split(line.replace("CALIB", calibration))
        assert words[0] == "labctl"
        code = main(words[1:])
        out, err = capsys.readouterr()
        assert code == 0, f"{line}\n{out}\n{err}"
        if words[1] == "fit" and not calibration:
            calibration = out.rpartition("next: labctl predict ")[2].split()[0]
        said[line] = out + err
    assert (here / "predictions.npz").is_file()
    assert (here / "predictions.csv").is_file()
    by_excel = said["labctl import from-excel.csv --weights from-pandas.csv --name lab-b"]
    assert "decimal commas" in by_excel
    assert "first line taken for a header" in by_excel
    turned = next(out for line, out in said.items() if "inputs=X," in line)
    assert "inputs were (12, 400): read as 400 rows of 12" in turned


def test_the_faulty_recording_of_the_page_is_told_as_it_says(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(here)
    monkeypatch.setenv("XDG_STATE_HOME", str(here / "state"))
    assert main(["import", "faulty.npz", "--name", "lab-c", "--unit", "DN"]) == 0
    capsys.readouterr()
    main(["fit", "--json"])
    fitted = json.loads(capsys.readouterr().out)
    reasons = {row["reason"].partition(":")[0] for row in fitted["bad_rows"]}
    assert {"not finite", "dropped", "saturated"} <= reasons
    notes = "\n".join(fitted["notes"])
    assert "output 2 reads 7 DN" in notes
    assert "from row 150 on the readings are 1 row late" in notes
    assert "cut off at a ceiling" in notes


def reasons() -> set[str]:
    """The reasons that the code gives for leaving a row out."""
    response = Path(__file__).parents[2] / "calibration" / "response"
    found = {NOT_FINITE}
    for name in ("collapse", "faults", "screening", "startup"):
        code = (response / f"{name}.py").read_text(encoding="utf-8")
        found |= set(re.findall(r'(?:_Explanation|BadFrame|_frame|append)\(\(?[^"\n]*"([a-z ]+)",', code))
        found |= set(re.findall(r'reason, evidence = "([a-z ]+)"', code)) | set(re.findall(r'\("([a-z]+)", f"', code))
    return found


def test_every_reason_and_every_kind_of_file_is_on_the_page() -> None:
    table = TEXT.partition("### Why a row is left out")[2]
    assert len(reasons()) == 16
    assert {reason for reason in reasons() if f"`{reason}`" not in table} == set()
    endings = [suffix for form in FORMATS for suffix in form.suffixes if suffix != ".tiff"]
    assert [suffix for suffix in endings if f"`{suffix}`" not in TEXT] == []
