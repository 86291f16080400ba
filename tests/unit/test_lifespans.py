"""The lifespan of an app: those of its parts, one in the other."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from faregate.asgi import lifespan_of


class Part:
    """What has a lifespan, and notes it."""

    def __init__(self, name: str, notes: list[str]) -> None:
        self.name = name
        self.notes = notes

    @asynccontextmanager
    async def lifespan(self, _app: object) -> AsyncIterator[None]:
        """Note the beginning and the end."""
        self.notes.append(f"{self.name} begins")
        try:
            yield
        finally:
            self.notes.append(f"{self.name} ends")


async def test_parts_begin_in_order_and_end_in_reverse_also_after_an_error() -> None:
    """A function without a lifespan, such as one of a test, has nothing to close."""
    notes: list[str] = []
    parts = (Part("gate", notes), lambda scope: None, Part("keys", notes))

    async def serve() -> None:
        async with lifespan_of(*parts)(None):
            notes.append("served")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await serve()
    assert notes == ["gate begins", "keys begins", "served", "keys ends", "gate ends"]
