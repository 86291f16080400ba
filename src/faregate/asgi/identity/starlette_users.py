"""Users whom Starlette's own middleware has found: in a session, or by authentication.

Both middlewares must run before the gate: they stand above it in the app's list.
"""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from starlette.types import Scope

from faregate.asgi.identity.caller import Identify, user_id_from
from faregate.domain.errors import ConfigurationError


def session_identity(name: str = "user_id", *, namespace: UUID | None = None) -> Identify:
    """Take the user from the session: what the app wrote under `name` when it logged the user in.

    Args:
        name: A name in `request.session`. A request without it has no caller.
        namespace: Maps what is no UUID, such as a number, to a user; without it, it is nobody.
    """

    def identify(scope: Scope) -> UUID | None:
        if "session" not in scope:
            raise ConfigurationError("there is no session: SessionMiddleware stands above the gate")
        return user_id_from(scope["session"].get(name), namespace)

    return identify


def user_identity(
    subject: str | Callable[[Any], object] = "identity", *, namespace: UUID | None = None
) -> Identify:
    """Take the user whom AuthenticationMiddleware has put into the scope, if it is authenticated.

    Args:
        subject: What stands for the user: the name of an attribute, or a function of the user.
        namespace: Maps what is no UUID, such as a name, to a user; without it, it is nobody.
    """

    def identify(scope: Scope) -> UUID | None:
        if "user" not in scope:
            raise ConfigurationError(
                "there is no user: AuthenticationMiddleware stands above the gate"
            )
        user = scope["user"]
        # A method of that name would be true for everybody.
        if user.is_authenticated is not True:
            return None
        found = getattr(user, subject) if isinstance(subject, str) else subject(user)
        return user_id_from(found, namespace)

    return identify
