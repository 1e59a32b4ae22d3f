"""Have torch compute by its parts what it has single functions for, so that the products in them are seen."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


class Shared:
    """A state of the whole process, which lasts as long as any thread needs it.

    Parameters
    ----------
    make
        Gives a context manager that makes the state, and puts back what was before.
    """

    def __init__(self, make: Callable[[], AbstractContextManager[object]]) -> None:
        self._make, self._lock, self._users = make, threading.Lock(), 0
        self._opened = ExitStack()

    @contextmanager
    def held(self) -> Iterator[None]:
        """The state is so while this is open."""
        with self._lock:
            if not self._users:
                self._opened.enter_context(self._make())
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._opened.close()


@contextmanager
def _without_fused() -> Iterator[None]:
    """Torch's attention and encoder layers call their parts, and not one function for all of them."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def _without_onednn() -> Iterator[None]:
    """Torch's recurrent layers call their parts, too."""
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(before)


@contextmanager
def _without_compiler() -> Iterator[None]:
    """Functions that somebody has given to `torch.compile` run as they are written."""
    with torch.compiler.set_stance("force_eager"):
        yield


by_parts = Shared(_without_fused).held
"""While open, attention and encoder layers show their products."""
recurrent_by_parts = Shared(_without_onednn).held
"""While open, recurrent layers do."""
uncompiled = Shared(_without_compiler).held
"""While open, compiled functions do."""
