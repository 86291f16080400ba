"""Who is charged for a request, and which requests are charged to nobody."""

from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import TypeAlias
from uuid import UUID

from starlette.types import Scope

#: Says who sent a request, from its scope: a verified user id, or None for nobody (then 401).
#: Async or not; one that is not must not wait for anything, since all requests would wait with it.
#: It must come from what was verified (a session, a signed token, a key that was looked up), never
#: from a header as it was sent nor from an address: both are the client's word.
Identify: TypeAlias = Callable[[Scope], Awaitable[UUID | None] | UUID | None]

#: Says whether a request passes without identity and without charge.
Exempt: TypeAlias = Callable[[Scope], bool]


async def user_of(identify: Identify, scope: Scope) -> UUID | None:
    """Return who sent a request, or None for nobody.

    Raises:
        TypeError: `identify` answered something else, so nobody knows who would be charged.
    """
    found = identify(scope)
    if isawaitable(found):
        found = await found
    if found is None or isinstance(found, UUID):
        return found
    raise TypeError(f"identify returns a UUID or None, not {type(found).__name__}")


def is_cors_preflight(scope: Scope) -> bool:
    """Say whether a browser only asks if it may send a request (the CORS protocol of Fetch).

    Such a question carries no identity, whatever the user's, and the request it asks about is
    charged. Any other OPTIONS request is a request like others.
    """
    if scope["method"] != "OPTIONS":
        return False
    names = {name for name, _ in scope["headers"]}
    return b"origin" in names and b"access-control-request-method" in names
