"""The caller of a request, and helpers for identity functions."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from inspect import isawaitable
from typing import TypeAlias
from uuid import UUID

from starlette.types import Scope

from faregate.domain.errors import ConfigurationError, IdentityAnswerError
from faregate.domain.user import user_id_of

#: The longest subject, in characters, by OpenID Connect (Core 1.0, section 2).
SUBJECT_LENGTH_MAX = 255

#: The longest credential, in bytes. A longer one is ignored.
CREDENTIAL_BYTES_MAX = 8_192

#: A bearer token by RFC 6750, section 2.1.
_TOKEN = re.compile(rb"[A-Za-z0-9\-._~+/]+=*")
_SCHEME = b"bearer "
#: A UUID in its usual form; `UUID` itself also accepts braces, prefixes and misplaced hyphens.
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The user of a request, with its tier and limit key."""

    #: The user who is charged.
    user_id: UUID
    #: The name of its policy; None for the tier that the gate resolves.
    tier: str | None = None
    #: The key for the policy's limits by key, such as the id of an API key.
    limit_key: str = ""

    def __post_init__(self) -> None:
        for what, value, kinds in (
            ("user id", self.user_id, UUID),
            ("tier", self.tier, str | None),
            ("limit key", self.limit_key, str),
        ):
            if not isinstance(value, kinds):
                kind = type(value).__name__
                raise IdentityAnswerError(f"the {what} of a caller cannot be a {kind}")


#: Returns whether a request passes without identity and without charge.
Exempt: TypeAlias = Callable[[Scope], bool]
#: The result of an identity function; None for an unknown caller.
Answer: TypeAlias = Caller | UUID | None

#: Returns the verified user of a request, from its scope, or None if there is none (a 401). It may
#: be async; a sync one must not block, since all requests would wait. The user must be verified: by
#: a session, a signed token, or a key that was looked up; never by a plain header or an address,
#: which a client can forge. It raises `IdentityUnavailableError` if it cannot identify the caller
#: now (a 503).
Identify: TypeAlias = Callable[[Scope], Awaitable[Answer] | Answer]


async def caller_of(identify: Identify, scope: Scope) -> Caller | None:
    """Return the caller of a request, or None; raises as `caller_from` does."""
    return await caller_from(identify(scope))


async def caller_from(answer: Answer | Awaitable[Answer]) -> Caller | None:
    """Return the caller from the result of an identity function, or None.

    Raises:
        IdentityAnswerError: The result is neither a user nor None.
        IdentityUnavailableError: The caller cannot be identified now.
    """
    found = await answer if isawaitable(answer) else answer
    if found is None or isinstance(found, Caller):
        return found
    if isinstance(found, UUID):
        return Caller(user_id=found)
    raise IdentityAnswerError(
        f"identify returns a Caller, a UUID or None, not {type(found).__name__}"
    )


def first_of(*ways: Identify) -> Identify:
    """Combine identity functions: the first that returns a caller decides.

    An error ends the search, so that an outage never turns a caller into another one.

    Raises:
        ConfigurationError: There is no function.
    """
    if not ways:
        raise ConfigurationError("first_of needs at least one identity function")

    async def identify(scope: Scope) -> Caller | None:
        for way in ways:
            caller = await caller_of(way, scope)
            if caller is not None:
                return caller
        return None

    return identify


def user_id_from(subject: object, namespace: UUID | None) -> UUID | None:
    """Return the user of a verified subject, or None.

    A UUID, or its text, is the user itself. With a namespace, `user_id_of` maps any other text or
    number to a user.
    """
    if isinstance(subject, UUID):
        return subject
    if isinstance(subject, int) and not isinstance(subject, bool):
        subject = str(subject)
    if not isinstance(subject, str) or len(subject) > SUBJECT_LENGTH_MAX:
        return None
    if _UUID.fullmatch(subject):
        return UUID(subject)
    if namespace is None or not subject or not subject.isprintable():
        return None
    return user_id_of(namespace, subject)


def credential(scope: Scope, field_name: bytes) -> str | None:
    """Return the credential in a field; None if there is none or more than one.

    In `authorization` it follows the scheme Bearer. Any other field contains only the credential.
    """
    values = [value for name, value in scope["headers"] if name == field_name]
    if len(values) != 1 or len(values[0]) > CREDENTIAL_BYTES_MAX:
        return None
    (value,) = values
    if field_name == b"authorization":
        if value[: len(_SCHEME)].lower() != _SCHEME:
            return None
        value = value[len(_SCHEME) :]
    value = value.strip(b" ")
    return value.decode() if _TOKEN.fullmatch(value) else None


def is_cors_preflight(scope: Scope) -> bool:
    """Return whether a request is a CORS preflight of a browser (the Fetch standard).

    A preflight carries no credentials, and the request that follows is charged. Other OPTIONS
    requests are charged like any request.
    """
    if scope["method"] != "OPTIONS":
        return False
    names = {name for name, _ in scope["headers"]}
    return b"origin" in names and b"access-control-request-method" in names
