"""When API keys were last used, written now and then instead of at each request."""

import asyncio
import logging
from contextlib import suppress
from datetime import datetime
from uuid import UUID

from faregate.domain.errors import FaregateError
from faregate.ports import ApiKeys

_log = logging.getLogger(__name__)


class KeyUses:
    """Collects uses, and writes them `interval_s` after the first that is not written yet."""

    def __init__(self, api_keys: ApiKeys, interval_s: float, keys_max: int) -> None:
        self._api_keys = api_keys
        self._interval_s = interval_s
        self._keys_max = keys_max
        self._used_at: dict[UUID, datetime] = {}
        self._writing: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    def note(self, key_id: UUID, now: datetime) -> None:
        """Note that a key is used now."""
        if key_id not in self._used_at and len(self._used_at) >= self._keys_max:
            # It is noted at its next use; this is for people, and decides nothing.
            return
        self._used_at[key_id] = now
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write_later())

    async def _write_later(self) -> None:
        """Write after each interval, until there is nothing left to write."""
        try:
            while self._used_at:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._closing.wait(), self._interval_s)
                await self._write()
                if self._closing.is_set():
                    return
        finally:
            self._writing = None

    async def _write(self) -> None:
        used_at, self._used_at = self._used_at, {}
        try:
            await self._api_keys.note_uses(used_at)
        except FaregateError as error:
            _log.warning("the last uses of %d API keys are not written: %s", len(used_at), error)
            self._used_at = used_at | self._used_at

    async def aclose(self) -> None:
        """Write what is left, once."""
        self._closing.set()
        if self._writing is not None:
            await asyncio.wait([self._writing])
