"""The one error class that every error of the suite is built on, and the one for a file that is not opened."""

from __future__ import annotations

from typing import ClassVar


class CodedError(Exception):
    """An error with a code of its own, which says what failed and what to do next.

    `drivers.errors`, `calibration.errors` and `labctl.errors` each have one family of subclasses. A subclass owns its
    code, the exit code with which a command ends that meets it, and whether trying the same again may help.

    Parameters
    ----------
    what
        What failed, in one line.
    device
        The device, file or bench on which it failed; empty if none.
    action
        What was being done at that moment.
    expected, seen
        What was expected, and what was there instead.
    safe
        The state that the failure leaves behind: what is switched off, what is kept.
    hint
        What to do or to type next.

    Examples
    --------
    >>> class FrameMissing(CodedError):
    ...     code, exit_code = "E-XMP-001", 20
    >>> error = FrameMissing("no frame within 2 s", device="camera 2271", hint="labctl devices list")
    >>> str(error), error.code, error.device, error.retryable
    ('no frame within 2 s', 'E-XMP-001', 'camera 2271', False)
    """

    code: ClassVar[str]
    exit_code: ClassVar[int]
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        what: str,
        *,
        device: str = "",
        action: str = "",
        expected: str = "",
        seen: str = "",
        safe: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(what)
        self.what, self.device, self.action = what, device, action
        self.expected, self.seen, self.safe, self.hint = expected, seen, safe, hint

    @property
    def __notes__(self) -> list[str]:
        """What Python prints below the error, from what is known by then; in a notebook nobody else says what to do."""
        told = {"on": self.device, "expected": self.expected, "seen": self.seen, "safe": self.safe, "try": self.hint}
        return [self.code] + [f"  {name}: {words}" for name, words in told.items() if words]

    @__notes__.setter
    def __notes__(self, notes: list[str]) -> None:
        """Told by whoever unpickles an error, Dask for one; they follow from the rest."""


class FileRefused(CodedError, OSError, ValueError):
    """A file that is not opened: no regular file, larger than what it may be, or not what its format allows.

    It is an `OSError` and a `ValueError`, too, so that a reader which says in its own words what such a file means to
    it needs no further branch.
    """

    code = "E-FIL-001"
    exit_code = 2

    def __str__(self) -> str:
        facts = [f"{word} {text}" for word, text in (("expected", self.expected), ("seen", self.seen)) if text]
        return f"{self.what} ({'; '.join(facts)})" if facts else self.what
