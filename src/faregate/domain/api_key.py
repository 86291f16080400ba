"""API keys: their text, and the values that are stored.

    fg_<id>_<secret>        in hexadecimal: 16 bytes that find the row, 32 random ones that prove it

So one expression finds leaked keys: `fg_[0-9a-f]{32}_[0-9a-f]{64}`.

Only the SHA-256 of a secret is stored. A slow hash, as for passwords, would add nothing: it
protects texts that people choose, while 256 random bits cannot be guessed, and each first request
with a key would be slower. Ids are not secret.
"""

import hmac
import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Self
from uuid import UUID

from uuid_utils.compat import uuid7

from faregate.domain.errors import InvalidArgumentError
from faregate.domain.user import check_user_id

#: The longest name of a key or tier, in characters.
NAME_LENGTH_MAX = 100

_SECRET_BYTES = 32
_WRITTEN = re.compile(r"fg_([0-9a-f]{32})_([0-9a-f]{64})", re.ASCII)
#: Compared with the secret of an unknown key, so that this takes as long as for a wrong one.
_NO_HASH = bytes(sha256().digest_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """An API key, without its secret and its hash."""

    #: The public part of the key, by which it is listed and revoked.
    id: UUID
    #: The user that is charged.
    user_id: UUID
    #: The purpose of the key, for people.
    name: str
    #: The tier of its requests; None for that of the user.
    tier: str | None
    #: When the key was made.
    created_at: datetime
    #: When the key expires; None for never.
    expires_at: datetime | None = None
    #: When the key was revoked; None if it was not.
    revoked_at: datetime | None = None
    #: The last use of the key, up to about a minute late, since not every use is written.
    last_used_at: datetime | None = None

    def is_in_force(self, now: datetime) -> bool:
        """Return whether the key is valid: neither expired nor revoked."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredApiKey:
    """A key with the hash of its secret."""

    #: The key.
    key: ApiKey
    #: The SHA-256 of its secret.
    secret_hash: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PresentedApiKey:
    """The key in a request: its id, and the hash of its secret."""

    id: UUID
    secret_hash: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read a key from its text; None for any other text."""
        found = _WRITTEN.fullmatch(text)
        if found is None:
            return None
        return cls(id=UUID(found[1]), secret_hash=sha256(bytes.fromhex(found[2])).digest())

    def unlock(self, stored: StoredApiKey | None, now: datetime) -> ApiKey | None:
        """Return the stored key if the secrets match and the key is valid.

        For an unknown key it returns None after the same time.
        """
        expected = _NO_HASH if stored is None else stored.secret_hash
        is_same = hmac.compare_digest(expected, self.secret_hash)
        if stored is None or not is_same or not stored.key.is_in_force(now):
            return None
        return stored.key


@dataclass(frozen=True, slots=True, kw_only=True)
class NewApiKey:
    """A new key, with its secret, which is not stored."""

    key: ApiKey
    #: The text of the key, which is shown once.
    text: str = field(repr=False)
    secret_hash: bytes = field(repr=False)

    @classmethod
    def mint(
        cls,
        user_id: UUID,
        name: str,
        *,
        now: datetime,
        tier: str | None = None,
        expires_at: datetime | None = None,
    ) -> Self:
        """Make a key for a user.

        Raises:
            InvalidArgumentError: Name or tier is empty, too long or not printable, or the expiry is
                over.
        """
        if expires_at is not None and expires_at <= now:
            raise InvalidArgumentError("a new API key must expire in the future")
        secret = secrets.token_bytes(_SECRET_BYTES)
        key = ApiKey(
            id=uuid7(nanoseconds=int(now.timestamp() * 1_000) * 1_000_000),
            user_id=check_user_id(user_id),
            name=_check_text("the name", name),
            tier=None if tier is None else _check_text("the tier", tier),
            created_at=now,
            expires_at=expires_at,
        )
        text = f"fg_{key.id.hex}_{secret.hex()}"
        return cls(key=key, text=text, secret_hash=sha256(secret).digest())


def _check_text(what: str, text: str) -> str:
    if not 0 < len(text) <= NAME_LENGTH_MAX or not text.isprintable():
        raise InvalidArgumentError(
            f"{what} of an API key must have 1 to {NAME_LENGTH_MAX} printable"
            f" characters, not {text!r}"
        )
    return text
