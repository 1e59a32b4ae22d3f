"""One place for output."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from rich.text import Text

from labctl.console import Console, PlainProgress, tolerate_narrow_encodings, wrapped


@dataclass
class Row:
    path: Path
    value: float


def test_json_mode_keeps_stdout_for_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(json_mode=True)
    console.say("hello")
    console.warn("careful")
    console.table(("a",), [(1,)])
    console.result({"rows": [Row(Path("x"), float("nan"))], "array": np.arange(2), "count": np.int64(3)}, "ignored")
    out, err = capsys.readouterr()
    assert json.loads(out) == {"rows": [{"path": "x", "value": None}], "array": [0, 1], "count": 3}
    assert err.splitlines() == ["hello", "careful", "a", "1"]
    with pytest.raises(RuntimeError, match="one result"):
        console.result({})


def test_quiet_leaves_results_and_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(quiet=True)
    console.say("hello")
    with console.progress("measuring", 3) as progress:
        progress.advance(3)
    console.warn("careful")
    console.result({}, "done")
    assert tuple(capsys.readouterr()) == ("done\n", "careful\n")


def test_table_is_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    Console().table(("run", "status"), [("k7f2", "ok"), ("m", "crashed")])
    assert capsys.readouterr().out.splitlines() == ["run   status", "k7f2  ok", "m     crashed"]


def test_without_a_terminal_progress_is_a_line_per_30_s() -> None:
    now, lines = [0.0], list[str]()
    progress = PlainProgress("measuring", 100, lines.append, lambda: now[0])
    for second in range(100):
        now[0] = float(second)
        progress.advance(1, note="gain")
    assert lines == [
        "measuring 31/100 (31%), 1:06 left  gain",
        "measuring 61/100 (61%), 0:38 left  gain",
        "measuring 91/100 (91%), 0:08 left  gain",
    ]


def test_progress_of_unknown_length_says_how_long_it_took() -> None:
    now, lines = [0.0], list[str]()
    progress = PlainProgress("reading", None, lines.append, lambda: now[0])
    now[0] = 61.0
    progress.advance(5)
    assert lines == ["reading 5, 1:01 so far"]


def test_short_work_without_a_terminal_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Console().progress("measuring", 3) as progress:
        progress.advance(3)
    assert tuple(capsys.readouterr()) == ("", "")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_sentences_are_broken_into_lines_and_commands_and_settings_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(Console, "width", 40)
    sentence = "d = 64: windows of 128 tokens, labctl 0.2.0; ± is one standard error"
    copied = ["next: labctl simulate ideal model.safetensors --photons-per-mac 10", "key = " + 40 * "x"]
    for line in (sentence, *copied):
        Console().say(line)
    lines = terminal.getvalue().splitlines()
    assert lines[2:] == copied
    assert " ".join(line.strip() for line in lines[:2]) == sentence
    assert max(map(len, lines[:2])) <= 40


def test_terminal_gets_a_bar_without_colour_if_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    with Console().progress("measuring [x]", 3) as progress:
        progress.advance(3, "gain")
    assert "measuring [x]" in terminal.getvalue()
    assert "3/3" in terminal.getvalue()
    assert "\x1b[3" not in terminal.getvalue()


def test_dumb_terminal_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "dumb")
    assert not Console().interactive


def test_narrow_encoding_shows_a_question_mark() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    tolerate_narrow_encodings(stream)
    stream.write("≤ 0.05")
    stream.flush()
    assert stream.buffer.getvalue() == b"? 0.05"  # type: ignore[attr-defined]


def test_table_of_rich_is_plain_text_of_at_most_100_columns_without_a_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Console().show(Text("word " * 60, "bold red"))
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= 100
    assert out.split() == ["word"] * 60
    Console(json_mode=True).show(Text("for a person"))
    assert capsys.readouterr() == ("", "for a person\n")
    Console(quiet=True).show(Text("nobody asked"))
    assert capsys.readouterr() == ("", "")


def test_bar_says_what_is_counted_now_and_ends_at_its_total(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with Console().progress("frames", 30) as progress:
        progress.expect("dark", 30)
        progress.advance(10)
        progress.expect("couplings", 12)
        progress.advance(2)
    shown = terminal.getvalue()
    assert "couplings" in shown
    assert shown.rindex("12/12") > shown.rindex("couplings")


def test_last_column_goes_on_below_itself_and_numbers_keep_their_units(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Console, "width", 40)
    Console().table(("node", "because"), [("dark", "0.1 h old, would expire before the next night"), ("lut", "ok")])
    assert capsys.readouterr().out.splitlines() == [
        "node  because",
        "dark  0.1 h old, would expire before the",
        "      next night",
        "lut   ok",
    ]


@pytest.mark.parametrize("width", range(12, 60))
def test_no_line_ends_between_a_number_and_its_unit_error_or_limit(width: int) -> None:
    parts = ("4.054 ± 0.14 DN/e-", "0.3 %", "12 s", "(≤ 0.1 px)", "-0.02 … 0.04 %")
    found = wrapped("read noise of this bench is " + " while the next one is ".join(parts), width)
    assert all(part in found for part in parts)
    assert max(map(len, found.splitlines())) <= max(width, *map(len, parts)) + 1


def test_columns_that_do_not_fit_go_below_beside_the_first_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Console, "width", 80)
    headers = ("C", *(f"d = {2**n}" for n in range(5, 9)), "power law", "95 %")
    rows = [("feed-forward", *("0.965 ± 0.06",) * 4, "d^(-0.87)", "-1.35 … -0.38"), ("Q·Kᵀ", *("–",) * 6)]
    text = Console().laid_out(headers, rows)
    first, second = text.split("\n\n")
    assert max(map(len, text.splitlines())) <= 80
    assert first.splitlines()[0].endswith("power law")
    assert second.splitlines()[1].split() == ["feed-forward", "-1.35", "…", "-0.38"]


def test_a_terminal_gets_words_in_lines_of_its_width_and_commands_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(Console, "width", 40)
    command = "next: labctl simulate runs/calibrations/cal-0123456789abcdef.calib.h5"
    Console().say(f"  light is better by a factor of about 22,792 × (90 %: 3 … 40,000)\n{command}")
    *words, last = terminal.getvalue().splitlines()
    assert last == command
    assert all(len(line) <= 40 for line in words)
    assert words[1].startswith("    ")
