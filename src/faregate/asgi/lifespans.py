"""The lifespan of an app that has more to open and close than its gate."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

Lifespan = Callable[[Any], AbstractAsyncContextManager[None]]


def lifespan_of(*parts: object) -> Lifespan:
    """Return the lifespan of an app: it enters those of its parts, and leaves them at the end.

    A part is a gate, or an identity function. One without a `lifespan` has nothing to close.
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
