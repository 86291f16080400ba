"""A user, and its balance."""

from dataclasses import dataclass
from uuid import UUID, uuid5

from faregate.domain.errors import InvalidArgumentError


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user with its balance at one moment, live or durable."""

    #: `auth.users.id`. Other identities map to one, see `user_id_of`.
    id: UUID
    #: The balance, in credits.
    credits: int
    #: The number of transactions so far; the next one gets `sequence + 1`.
    sequence: int
    #: The epoch of the balance.
    epoch: int
    #: The rest of the user's allowance: a part of `credits`, spent first.
    allowance_left: int = 0
    #: When the period of that allowance began, in Unix milliseconds; None without one.
    period_start_ms: int | None = None
    #: When the next period begins, in Unix milliseconds; None without a policy.
    period_end_ms: int | None = None
    #: The credits in open holds: not part of `credits`, and not yet spent.
    held: int = 0


def user_id_of(namespace: UUID, name: str) -> UUID:
    """Map another identity to a user id, always the same for the same name (RFC 9562, v5).

    Raises:
        InvalidArgumentError: The name is empty.
    """
    if not name:
        raise InvalidArgumentError("an identity needs a name")
    return uuid5(namespace, name)


def check_user_id(user_id: object) -> UUID:
    """Return a user id if it is a UUID.

    Raises:
        InvalidArgumentError: It is not a UUID; `user_id_of` maps other identities to one.
    """
    if not isinstance(user_id, UUID):
        raise InvalidArgumentError(f"a user id must be a UUID, not {user_id!r}")
    return user_id
