"""Whether the panels have shown what they were given: what was read while they did not must be read again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from drivers.errors import DeviceError
from drivers.protocols import Modulator, VerifiedPanel, can


class Suspicion:
    """Of what a step has read so far.

    Attributes
    ----------
    is_raised
        Whether a panel was found to show something else, or to be gone, since nobody knows when.
    """

    def __init__(self) -> None:
        self.is_raised = False

    @contextmanager
    def raised_on_error(self) -> Iterator[None]:
        """What a panel has shown before is not known to be right where it fails in more than being late."""
        try:
            yield
        except DeviceError as error:
            self.is_raised |= not error.retryable
            raise

    def verify(self, panel: Modulator) -> None:
        """Let a panel that can look whether it shows what it was given do so."""
        if can(panel, VerifiedPanel):
            with self.raised_on_error():
                panel.verify()
