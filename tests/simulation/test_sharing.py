"""What light computes does not depend on how many threads compute it."""

from __future__ import annotations

import signal

import pytest
import torch

from groundwork.threads import Threads
from simulation.benches.naming import MACHINES, PRESETS
from simulation.conversion.optical import optical_state, opticalize
from simulation.conversion.quantise import quantise_int8
from simulation.light import sharing
from simulation.models.gpt import GPT


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bands small enough for several threads; how many rows each band had."""
    had: list[int] = []
    rows = Threads.rows

    def watched(self: Threads, function: object, count: int, *args: object, band: int) -> None:
        def told(first: int, last: int, *args: object) -> None:
            had.append(last - first)
            function(first, last, *args)  # type: ignore[operator]

        rows(self, told, count, *args, band=band)

    monkeypatch.setattr(sharing, "_BAND", 64)
    monkeypatch.setattr(Threads, "rows", watched)
    return had


def on(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    """So many threads for our loops, and one for torch's products, whose last bits may depend on their number."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)


@pytest.mark.parametrize("bench", [*PRESETS, *MACHINES])
def test_noise_of_every_bench_is_the_same_on_several_threads(
    model: GPT, sequences: list[list[int]], bench: str, shared: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = torch.tensor(sequences)[:, :19]
    found = []
    for threads in (3, 1):
        on(monkeypatch, threads)
        shared.clear()
        optical = opticalize(model, bench, seed=3)
        with torch.no_grad():
            found.append((optical(ids), optical_state(optical), len(shared)))
    assert torch.equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]
    assert found[0][2] > found[1][2]  # they were shared


@pytest.mark.parametrize("variance", ["exact", "rank-one", "constant"])
def test_cheaper_noise_is_the_same_on_several_threads(
    variance: str, shared: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    linear = torch.nn.Sequential(torch.nn.Linear(40, 30))
    x = torch.randn(200, 40, generator=torch.Generator().manual_seed(1))
    found = []
    for threads in (3, 1):
        on(monkeypatch, threads)
        optical = opticalize(linear, "paper", photons_per_mac=30.0, seed=3, variance=variance)  # type: ignore[arg-type]
        with torch.no_grad():
            found.append(optical(x))
    assert torch.equal(*found)
    assert max(shared) == 200
    assert min(shared) < 200


def test_eight_bits_are_the_same_on_several_threads(
    model: GPT, sequences: list[list[int]], shared: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = torch.tensor(sequences)
    found = []
    for threads in (3, 1):
        on(monkeypatch, threads)
        with torch.no_grad():
            found.append(quantise_int8(model)(ids))
    assert torch.equal(*found)
    assert min(shared) < max(shared)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="nothing interrupts a process by its own time here")
def test_an_interrupt_is_never_lost_between_threads() -> None:
    """What a function of Python raises that OpenMP called would be reported, and forgotten."""
    team = sharing._team_of_torch()
    if team is None:
        pytest.skip("torch has no threads of OpenMP here")

    class Interrupt(Exception):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupt

    def share_until(cpu_s: float) -> None:
        signal.setitimer(signal.ITIMER_VIRTUAL, cpu_s)
        for _ in range(20_000):
            team(lambda: None, 7)

    before = signal.signal(signal.SIGVTALRM, interrupt)
    try:
        for tenth in range(1, 31):
            with pytest.raises(Interrupt):
                share_until(tenth * 1e-4)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
