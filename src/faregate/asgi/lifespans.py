"""The lifespan of an app with several parts to open and close."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

Lifespan = Callable[[Any], AbstractAsyncContextManager[None]]


def lifespan_of(*parts: object) -> Lifespan:
    """Return the lifespan of an app, which enters and exits those of its parts.

    A part is a gate or an identity function. A part without `lifespan` is ignored.
    """

    @asynccontextmanager
    async def lifespan(app: object) -> AsyncIterator[None]:
        async with AsyncExitStack() as opened:
            for part in parts:
                enter: Lifespan | None = getattr(part, "lifespan", None)
                if enter is not None:
                    await opened.enter_async_context(enter(app))
            yield

    return lifespan
