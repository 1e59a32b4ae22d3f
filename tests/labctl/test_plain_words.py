"""What a page says to somebody who knows none of its words: whether to trust the bench, and what the words mean."""

import datetime as dt
from types import SimpleNamespace

import pytest

from labctl.report.glossary import WORDS, words_section
from labctl.report.page import in_plain_words


def summary_of(reasons=(), applied=True, products=528):
    validation = SimpleNamespace(products=products, nrmse=0.0098) if products else None
    calibration = SimpleNamespace(path="runs/calibrations/cal-1.calib.h5", applied=applied, until=dt.datetime.max)
    return SimpleNamespace(validation=validation, calibration=calibration, nodes=reasons)


@pytest.fixture(autouse=True)
def reasons_as_given(monkeypatch):
    monkeypatch.setattr("labctl.report.page.reasons_out_of_spec", lambda nodes: list(nodes))


def test_a_bench_in_spec_is_said_to_be_and_how_to_use_it():
    words = in_plain_words(summary_of(), {"--runs": "../r"})
    assert "528 products" in words
    assert "0.98%" in words
    assert "Every figure that has a limit is within it" in words
    assert words.endswith("labctl simulate runs/calibrations/cal-1.calib.h5 --runs ../r")


def test_a_bench_out_of_spec_is_not_to_be_trusted():
    words = in_plain_words(summary_of(("couplings: χ² 2.0",), applied=False), {})
    assert "Do not trust it yet" in words
    assert "not in use" in words


def test_a_run_without_products_says_so():
    assert "no products" in in_plain_words(summary_of(products=0), {})


def test_words_of_a_page_stand_in_its_list():
    page = words_section()
    for word in ("MAC", "pass", "macropixel", "fiducial", "probe", "DN", "χ²/dof", "node", "gate"):
        assert f"<th>{word}<td>" in page
    assert all(meaning.endswith(".") and len(meaning) < 200 for meaning in WORDS.values())
