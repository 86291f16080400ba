"""Which requests are charged to nobody."""

from collections.abc import Callable
from typing import TypeAlias

from starlette.types import Scope

#: Says whether a request passes without identity and without charge.
Exempt: TypeAlias = Callable[[Scope], bool]


def is_cors_preflight(scope: Scope) -> bool:
    """Say whether a browser only asks if it may send a request (the CORS protocol of Fetch).

    Such a question carries no identity, whatever the user's, and the request it asks about is
    charged. Any other OPTIONS request is a request like others.
    """
    if scope["method"] != "OPTIONS":
        return False
    names = {name for name, _ in scope["headers"]}
    return b"origin" in names and b"access-control-request-method" in names
