"""One look a second for all who watch: whoever is slow gets the newest state and misses the ones between."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

SPACING_S = 1.0
QUIET_S = 15.0
"""So often a line is sent that says nothing, so that both ends notice a broken connection [s]."""
WATCHERS_MAX = 150


class Hub:
    """Looks while somebody watches, and not otherwise.

    Parameters
    ----------
    look
        Gives the parts of the page by their ids.
    spacing_s
        How long after one look comes the next [s].
    is_ending
        Whether the page is being closed: those who watch are let go at the next look.
    """

    def __init__(
        self,
        look: Callable[[], Awaitable[Mapping[str, str]]],
        spacing_s: float = SPACING_S,
        is_ending: Callable[[], bool] = lambda: False,
    ) -> None:
        self._look, self._spacing_s, self._is_ending = look, spacing_s, is_ending
        self._parts: Mapping[str, str] = {}
        self._change = asyncio.Condition()
        self._watchers, self._version = 0, 0
        self._task: asyncio.Task[None] | None = None

    @property
    def is_full(self) -> bool:
        """Whether nobody more can watch."""
        return self._watchers >= WATCHERS_MAX

    async def watch(self) -> AsyncIterator[str]:
        """Server-sent events: all parts first, then again and again those that have changed."""
        self._watchers += 1
        if self._task is None:
            self._task = asyncio.create_task(self._go_on())
        try:
            sent: dict[str, str] = {}
            version = 0
            yield "retry: 2000\n\n"
            while not self._is_ending():
                try:
                    async with asyncio.timeout(QUIET_S), self._change:
                        await self._change.wait_for(lambda seen=version: self._version != seen)  # type: ignore[misc]
                        version, parts = self._version, self._parts
                except TimeoutError:
                    yield ": still here\n\n"
                    continue
                changed = {name: part for name, part in parts.items() if sent.get(name) != part}
                if changed:
                    sent |= changed
                    yield f"data: {json.dumps(changed)}\n\n"
        finally:
            self._watchers -= 1

    async def close(self) -> None:
        """Nobody watches any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _go_on(self) -> None:
        """Until nobody has watched for one round."""
        try:
            while self._watchers:
                parts = await self._look()
                async with self._change:
                    self._parts, self._version = parts, self._version + 1
                    self._change.notify_all()
                await asyncio.sleep(self._spacing_s)
        finally:
            self._task = None
