"""Users from Starlette's own middleware: from a session, or from authentication.

Both middlewares must run before the gate: they stand above it in the app's list.
"""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from starlette.types import Scope

from faregate.asgi.identity.caller import Identify, user_id_from
from faregate.domain.errors import ConfigurationError


def session_identity(name: str = "user_id", *, namespace: UUID | None = None) -> Identify:
    """Return an identity function for the user that a login has written into the session.

    Args:
        name: A name in `request.session`. A request without it has no caller.
        namespace: Maps values that are no UUID, such as numbers, to users.
    """

    def identify(scope: Scope) -> UUID | None:
        if "session" not in scope:
            raise ConfigurationError("there is no session: put SessionMiddleware above the gate")
        return user_id_from(scope["session"].get(name), namespace)

    return identify


def user_identity(
    subject: str | Callable[[Any], object] = "identity", *, namespace: UUID | None = None
) -> Identify:
    """Return an identity function for the authenticated user of AuthenticationMiddleware.

    Args:
        subject: The id of the user: the name of an attribute, or a function of the user.
        namespace: Maps ids that are no UUID, such as names, to users.
    """

    def identify(scope: Scope) -> UUID | None:
        if "user" not in scope:
            raise ConfigurationError(
                "there is no user: put AuthenticationMiddleware above the gate"
            )
        user = scope["user"]
        # If it is a method, it would be true for every user.
        if user.is_authenticated is not True:
            return None
        found = getattr(user, subject) if isinstance(subject, str) else subject(user)
        return user_id_from(found, namespace)

    return identify
