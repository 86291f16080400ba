"""A user: who is charged."""

from dataclasses import dataclass
from uuid import UUID, uuid5

from faregate.domain.errors import InvalidArgumentError


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user and what is known of its balance at one moment, live or durable."""

    #: `auth.users.id`. Other identities map to one, see `user_id_of`.
    id: UUID
    #: The balance, in credits.
    credits: int
    #: The number of transactions so far; the next one gets `sequence + 1`.
    sequence: int
    #: The Redis history in which the balance holds.
    epoch: int
    #: What is left of the user's allowance; part of `credits`, and spent first.
    allowance_left: int = 0
    #: When the period of that allowance began, in Unix milliseconds; None where there was none.
    period_start_ms: int | None = None
    #: When the next period begins, in Unix milliseconds; None unless a policy was asked about.
    period_end_ms: int | None = None
    #: What was taken by holds that are still open: not part of `credits`, and not yet spent.
    held: int = 0


def user_id_of(namespace: UUID, name: str) -> UUID:
    """Map another identity to a user id: always the same one for the same name (RFC 9562, v5).

    Raises:
        InvalidArgumentError: The name is empty.
    """
    if not name:
        raise InvalidArgumentError("an identity needs a name")
    return uuid5(namespace, name)


def check_user_id(user_id: object) -> UUID:
    """Return a user id if it is a UUID.

    Raises:
        InvalidArgumentError: It is not; `user_id_of` maps other identities to one.
    """
    if not isinstance(user_id, UUID):
        raise InvalidArgumentError(f"a user id is a UUID, not {user_id!r}")
    return user_id
