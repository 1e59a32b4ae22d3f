"""A lazy front imports a name when it is used, and only then."""

from __future__ import annotations

import doctest
import sys
from pathlib import Path

import pytest

import groundwork.lazy


@pytest.fixture
def front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package with a lazy front, which is forgotten after the test."""
    package = tmp_path / "parcel"
    package.mkdir()
    package.joinpath("__init__.py").write_text(
        "from groundwork.lazy import lazy_front\n"
        "__getattr__, __dir__ = lazy_front(__name__, {'contents': 'parcel.inside', 'lost': 'parcel.inside'})\n",
        encoding="utf-8",
    )
    package.joinpath("inside.py").write_text("contents = [1]\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("parcel", "parcel.inside"):
        monkeypatch.setitem(sys.modules, name, None)
        del sys.modules[name]
    return "parcel"


def test_a_module_is_imported_on_first_use_of_its_name(front: str) -> None:
    package = __import__(front)
    assert "parcel.inside" not in sys.modules
    assert package.contents is package.contents
    assert "parcel.inside" in sys.modules
    assert vars(package)["contents"] == [1]


def test_unknown_and_lost_names_are_attribute_errors(front: str) -> None:
    package = __import__(front)
    assert dir(package) == ["contents", "lost"]
    with pytest.raises(AttributeError, match="'parcel' has no attribute 'absent'"):
        _ = package.absent
    with pytest.raises(AttributeError, match="lost"):
        _ = package.lost


def test_the_example_in_the_docstring_works() -> None:
    found = doctest.testmod(groundwork.lazy)
    assert found.attempted
    assert not found.failed
