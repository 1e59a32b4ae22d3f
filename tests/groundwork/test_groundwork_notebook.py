"""What objects say of themselves: a line, and a table that no text of theirs breaks."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from groundwork.notebook import BARS, LONGEST, Card, Carded, figures, joined

EVIL = "<script>alert('x')</script>&\"'"


class Tags(HTMLParser):
    """Collects tags and text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert all(name in ("style", "scope") for name, _ in attrs)
        self.tags.append(tag)
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parsed(text: str) -> Tags:
    tags = Tags()
    tags.feed(text)
    tags.close()
    assert tags.open == []
    return tags


def test_card_is_one_block_without_scripts_links_or_classes() -> None:
    tags = parsed(Card("run r", "ok", {"took": "2 s"}, "good", ["a note"]).html)
    assert set(tags.tags) == {"div", "strong", "table", "tr", "th", "td", "p"}
    assert [text.strip() for text in tags.text] == ["run r", ": ok", "took", "2 s", "a note"]


def test_texts_are_escaped_and_long_ones_are_cut() -> None:
    card = Card(EVIL, EVIL, {EVIL: EVIL, "long": "y" * 5000}, "bad", [EVIL])
    tags = parsed(card.html)
    assert "script" not in tags.tags
    assert tags.text.count(EVIL) == 4
    assert f"{'y' * (LONGEST - 1)}…" in tags.text
    assert len(card.html) < 3000


def test_what_is_empty_is_left_out_and_nought_is_not() -> None:
    shown = Card("x", "", {"none": None, "empty": "", "nought": 0}).html
    assert ("nought" in shown, "none" in shown, "empty" in shown) == (True, False, False)
    assert "<table" not in Card("x", "y").html


@pytest.mark.parametrize("ground", ["#ffffff", "#111111"], ids=["light", "dark"])
def test_bars_are_told_from_a_light_and_a_dark_ground(ground: str) -> None:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    for bar in BARS.values():
        high, low = sorted((luminance(bar), luminance(ground)), reverse=True)
        assert (high + 0.05) / (low + 0.05) > 3  # WCAG: parts that are no text


def test_text_has_the_colours_of_the_notebook() -> None:
    shown = Card("x", "y", {"a": "b"}, "good", ["c"]).html
    assert re.findall(r"(?<![-\w])color:", shown) == []
    assert set(re.findall(r"background:(\w+)", shown)) == {"transparent"}


class Good(Carded):
    def card(self) -> Card:
        return Card("thing", "all well", {"a": 1})


class Broken(Carded):
    def card(self) -> Card:
        raise RuntimeError("nothing to be said")


def test_an_object_prints_a_line_and_shows_a_table() -> None:
    assert repr(Good()) == "<thing: all well>"
    assert "all well" in (Good()._repr_html_() or "")


def test_a_damaged_object_still_has_a_name() -> None:
    assert re.fullmatch(r"<.*Broken object at 0x\w+>", repr(Broken()))
    assert Broken()._repr_html_() is None


def test_parts_in_words() -> None:
    assert joined({"gain": "full", "crosstalk": "none"}) == "gain full, crosstalk none"
    assert figures({"a": 1.23456, "b": None, "c": 2}, {"a": "A", "b": "B", "d": "D", "c": "C"}) == "1.23 A, 2 C"
