"""Idempotency keys: a caller's name for a request, by which retries are recognised."""

from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from uuid import UUID

from faregate.domain.errors import InvalidArgumentError
from faregate.domain.transaction import CreditTransactionId
from faregate.domain.user import check_user_id

KEY_BYTES_MAX = 255
#: The default lifetime of a key, in milliseconds.
LIFETIME_MS = 86_400_000
#: The default time after which a retry takes over, in milliseconds.
LEASE_MS = 300_000
#: The default of the most keys of a user in one lifetime.
KEYS_MAX = 100_000

LIFETIME_MS_MIN = 1_000
LIFETIME_MS_MAX = 31 * 86_400_000
KEYS_COUNT_MAX = 1_000_000
#: The largest response that is saved for retries, in bytes.
RESPONSE_BYTES_MAX = 1_048_576
_DIGEST_BYTES = 16


class KeyState(StrEnum):
    """The state of the request of an idempotency key."""

    #: This is the first request with its key, or earlier ones were refused or given back.
    NEW = "new"
    #: Another request with the key was allowed and is not completed. Retry later.
    IN_FLIGHT = "in_flight"
    #: That request was not completed in time. This one takes over, for the same charge.
    TAKEN_OVER = "taken_over"
    #: That request was completed. Do not serve it again.
    DONE = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """The completion of the request of a key."""

    user_id: UUID
    #: The id of its charge or hold.
    transaction_id: CreditTransactionId
    #: The id of the attempt that was served, if it has taken over.
    attempt_id: CreditTransactionId | None = None
    #: The response for retries, encoded by the caller; empty for none.
    response: bytes = b""
    #: How long the response is saved, in milliseconds.
    lifetime_ms: int = LIFETIME_MS

    def __post_init__(self) -> None:
        if len(self.response) > RESPONSE_BYTES_MAX:
            raise InvalidArgumentError(
                f"a saved response must have at most {RESPONSE_BYTES_MAX} bytes"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotencyKey:
    """The key of one request, with its bounds."""

    #: Chosen by the caller, one for each request of a user.
    key: str
    #: A text for the rest of the request, such as its method, path and a digest of its body. The
    #: same key with another fingerprint is refused.
    fingerprint: str = ""
    lifetime_ms: int = LIFETIME_MS
    lease_ms: int = LEASE_MS
    keys_max: int = KEYS_MAX

    def __post_init__(self) -> None:
        check_idempotency_key(self.key)
        for what, value, low, high in (
            ("lifetime_ms", self.lifetime_ms, LIFETIME_MS_MIN, LIFETIME_MS_MAX),
            ("lease_ms", self.lease_ms, 0, self.lifetime_ms),
            ("keys_max", self.keys_max, 1, KEYS_COUNT_MAX),
        ):
            if not low <= value <= high:
                raise InvalidArgumentError(f"{what} of a key must lie between {low} and {high}")

    def to_saved(self) -> "SavedKey":
        """Return the form that a journal stores."""
        return SavedKey(
            key_digest=self.key_digest,
            fingerprint_digest=self.fingerprint_digest,
            lifetime_ms=self.lifetime_ms,
            lease_ms=self.lease_ms,
            keys_max=self.keys_max,
        )

    @property
    def key_digest(self) -> bytes:
        """The digest of the key, 16 bytes."""
        return _digest(self.key)

    @property
    def fingerprint_digest(self) -> bytes:
        """The digest of the fingerprint, 16 bytes."""
        return _digest(self.fingerprint)


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedKey:
    """An idempotency key as a journal stores it: digests only."""

    key_digest: bytes
    fingerprint_digest: bytes
    lifetime_ms: int
    lease_ms: int
    keys_max: int


def check_idempotency_key(text: object) -> str:
    """Return a text if it is a valid idempotency key.

    Raises:
        InvalidArgumentError: It is empty, too long, or no text that can be encoded.
    """
    with suppress(UnicodeEncodeError):
        if isinstance(text, str) and 0 < len(text.encode()) <= KEY_BYTES_MAX:
            return text
    raise InvalidArgumentError(f"an idempotency key must be text of 1 to {KEY_BYTES_MAX} bytes")


def id_of_idempotency_key(user_id: UUID, text: str) -> CreditTransactionId:
    """Return the transaction id of a user's key, for a change that is made once for good.

    `faregate.add_credits` computes the same id.
    """
    return CreditTransactionId.derive(f"key:{check_idempotency_key(text)}", check_user_id(user_id))


def _digest(text: str) -> bytes:
    return sha256(text.encode(errors="surrogatepass")).digest()[:_DIGEST_BYTES]
