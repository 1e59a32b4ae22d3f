"""A mock bench that is not what its station says, as a real one may be on some night."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from drivers.protocols import OpenContext
from mock_hardware import BenchConfig, backends

PANELS = """
[mock.slm]
rows = 192
cols = 240
[mock.display]
rows = 192
cols = 240
[mock.camera]
rows = 240
cols = 300
"""
"""Of a station: so small that a frame takes milliseconds."""
Change = Callable[[BenchConfig], BenchConfig]


@contextmanager
def bench_as(change: Change) -> Iterator[None]:
    """The mock bench otherwise than its station says, while the block lasts."""
    usual = backends._config

    def tonight(context: OpenContext) -> BenchConfig:
        return change(usual(context))

    backends._config = tonight
    try:
        yield
    finally:
        backends._config = usual
