"""API keys: how they are written, and what is kept of them.

    fg_<id>_<secret>        in hexadecimal: 16 bytes that find the row, 32 random ones that prove it

So one expression finds keys that leaked: `fg_[0-9a-f]{32}_[0-9a-f]{64}`.

Kept of a secret is its SHA-256, from which nobody gets it back. A slow hash, as for passwords,
would add nothing: it defends what people choose against guessing, and 256 random bits cannot be
guessed, whereas every first request with a key would pay for the slowness. Ids are no secrets.
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

#: How long the name of a key, or of its tier, may be, in characters.
NAME_LENGTH_MAX = 100

_SECRET_BYTES = 32
_WRITTEN = re.compile(r"fg_([0-9a-f]{32})_([0-9a-f]{64})", re.ASCII)
#: What the secret of an unknown key is compared with, so that it is as much work as a wrong one.
_NO_HASH = bytes(sha256().digest_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """What is known of a key. Neither its secret nor the hash of it."""

    #: Its public part, by which it is listed and revoked.
    id: UUID
    #: Who is charged for what is done with it.
    user_id: UUID
    #: What it is for, for people.
    name: str
    #: The tier of requests with it; None for the user's.
    tier: str | None
    #: When it was made.
    created_at: datetime
    #: From when on it counts no more; None for never.
    expires_at: datetime | None = None
    #: When it was revoked; None if it was not.
    revoked_at: datetime | None = None
    #: Up to a minute or so behind, since not every use is written.
    last_used_at: datetime | None = None

    def is_in_force(self, now: datetime) -> bool:
        """Say whether the key is in force."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredApiKey:
    """A key, and what its secret is compared with."""

    #: The key.
    key: ApiKey
    #: The SHA-256 of its secret.
    secret_hash: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PresentedApiKey:
    """What a request brought: an id that anybody may know, and the hash of what proves it."""

    id: UUID
    secret_hash: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read a key as it is written; None for anything else."""
        found = _WRITTEN.fullmatch(text)
        if found is None:
            return None
        return cls(id=UUID(found[1]), secret_hash=sha256(bytes.fromhex(found[2])).digest())

    def unlock(self, stored: StoredApiKey | None, now: datetime) -> ApiKey | None:
        """Return the stored key if this is it, and it is in force.

        Where nothing is stored the answer is None, and takes as long.
        """
        expected = _NO_HASH if stored is None else stored.secret_hash
        is_same = hmac.compare_digest(expected, self.secret_hash)
        if stored is None or not is_same or not stored.key.is_in_force(now):
            return None
        return stored.key


@dataclass(frozen=True, slots=True, kw_only=True)
class NewApiKey:
    """A key that was just made: the only moment at which its secret is known."""

    key: ApiKey
    #: The whole key, to be handed over and forgotten.
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
            InvalidArgumentError: Name or tier is empty, too long or not printable, or it would be
                out of date at once.
        """
        if expires_at is not None and expires_at <= now:
            raise InvalidArgumentError("an API key that is made expires in the future")
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
            f"{what} of an API key has 1 to {NAME_LENGTH_MAX} printable characters, not {text!r}"
        )
    return text
