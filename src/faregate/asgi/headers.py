"""The fields that tell a client how many credits it has. The one module that knows the draft.

It is draft-ietf-httpapi-ratelimit-headers-11: two lists in the syntax of structured fields (RFC
9651), whose items are the names of policies:

    RateLimit-Policy: "credits";q=3
    RateLimit: "credits";r=2

`q` is the quota that the policy gives: the starting credits. It stays the same from response to
response, as the draft asks, so `r`, the credits that are left, exceeds it after a purchase. The
alternatives mislead more: the largest balance a user ever had is known to nobody, and the balance
before the request would be a quota that shrinks.

What is left out, and why: `w` and `t`, since credits have no period yet; `qu`, since a unit must be
one that the draft registers, and a credit is none of them (by default a unit is a request, which is
what a credit buys unless the policy says otherwise); `pk`, since there is one balance a user.
"""

from collections.abc import Iterable
from typing import TypeAlias

from faregate.domain.errors import ConfigurationError

Headers: TypeAlias = list[tuple[bytes, bytes]]

_PRINTABLE_MIN = " "
_PRINTABLE_MAX = "~"


def printable(text: object, what: str) -> str:
    """Return `text` if it can be part of a field: printable ASCII, so that it injects nothing.

    Raises:
        ConfigurationError: It is not a text, is empty, or has other characters. `what` names it.
    """
    if not isinstance(text, str):
        raise ConfigurationError(f"{what} is a text, not {text!r}")
    if not text or not all(_PRINTABLE_MIN <= char <= _PRINTABLE_MAX for char in text):
        raise ConfigurationError(f"{what} consists of printable ASCII characters, not {text!r}")
    return text


def sf_string(text: str) -> str:
    """Write a printable text as a String of RFC 9651, section 4.1.6."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


class RateLimitFields:
    """The fields of one policy, with its name written once."""

    def __init__(self, policy_name: str) -> None:
        self.policy_name = printable(policy_name, "the name of a policy")
        self._item = sf_string(self.policy_name)

    def fields(self, *, quota: int, available: int, resets_in_s: int | None = None) -> Headers:
        """Return both fields.

        Args:
            quota: What the policy gives, in credits.
            available: What is left, in credits. The draft has no negative numbers: a balance
                below zero is shown as 0.
            resets_in_s: When the quota is given anew, in seconds; None for never.
        """
        reset = "" if resets_in_s is None else f";t={resets_in_s}"
        return [
            (b"ratelimit-policy", f"{self._item};q={quota}".encode()),
            (b"ratelimit", f"{self._item};r={max(available, 0)}{reset}".encode()),
        ]


def with_fields(headers: Iterable[tuple[bytes, bytes]], fields: Headers) -> Headers:
    """Return the headers of a response with `fields` after them, and leave the app's list alone.

    Fields of the same names that the app sent stay: both are lists, so a response may carry them
    more than once, such as for a limit of the app's own.
    """
    return [*headers, *fields]
