"""A run that fails is sealed with the verdict of its error."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from labctl.archive import RunWriter
from labctl.errors import LabError, as_coded
from labctl.lab import Lab
from labctl.summary import Summary, failure
from labctl.verdicts import verdict_of


@contextmanager
def sealed_on_error(lab: Lab, run: RunWriter, reached: Callable[[], Summary]) -> Iterator[None]:
    """Seal the run when the block raises, with what it had ``reached``; the error goes on.

    A disk that is full cannot take a seal, and a folder that is gone has no place for one; such a run counts as
    crashed, which it is.
    """
    try:
        yield
    except BaseException as error:
        coded = as_coded(error, run.path)
        code = getattr(coded, "exit_code", 1)
        lab.summary = failure(coded, code, reached())
        if run.sealed:  # what failed came after the end of the run, which stays as it was sealed
            raise
        if not run.path.is_dir():  # renamed or removed: nothing is made anew under the name of then
            raise
        with contextlib.suppress(LabError, OSError):
            run.finish(verdict_of(code), lab.summary, code)
        raise
