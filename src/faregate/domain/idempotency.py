"""Idempotency keys: a caller's own name for a request, by which every retry of it is known."""

from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from uuid import UUID

from faregate.domain.errors import InvalidArgumentError
from faregate.domain.transaction import CreditTransactionId
from faregate.domain.user import check_user_id

KEY_BYTES_MAX = 255
#: For how long a key is remembered, unless said otherwise. In milliseconds.
LIFETIME_MS = 86_400_000
#: After how long a request that has not been completed may be taken over. In milliseconds.
LEASE_MS = 300_000
#: How many keys of one user are remembered in one lifetime.
KEYS_MAX = 100_000

LIFETIME_MS_MIN = 1_000
LIFETIME_MS_MAX = 31 * 86_400_000
KEYS_COUNT_MAX = 1_000_000
#: How large a response may be that is kept for retries.
RESPONSE_BYTES_MAX = 1_048_576
_DIGEST_BYTES = 16


class KeyState(StrEnum):
    """Where the request that an idempotency key stands for was found."""

    #: This is the first request with its key, or those before were refused or given back.
    NEW = "new"
    #: Another request with the key was allowed and is not completed: come back later.
    IN_FLIGHT = "in_flight"
    #: That request was not completed in time. This one serves in its place, for its charge.
    TAKEN_OVER = "taken_over"
    #: That request was completed: nothing is to be served again.
    DONE = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What is noted when the request of a key has been served."""

    user_id: UUID
    #: The id of its charge or hold.
    transaction_id: CreditTransactionId
    #: The id of the attempt that was served, if it has taken over.
    attempt_id: CreditTransactionId | None = None
    #: What a retry is to be answered with, as the caller encodes it; empty for nothing.
    response: bytes = b""
    #: For how long that is kept.
    lifetime_ms: int = LIFETIME_MS

    def __post_init__(self) -> None:
        if len(self.response) > RESPONSE_BYTES_MAX:
            raise InvalidArgumentError(f"a kept response has {RESPONSE_BYTES_MAX} bytes at most")


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotencyKey:
    """The key of one request, and how long it counts."""

    #: Chosen by the caller, one for each request of a user.
    key: str
    #: What else makes up the request, such as its method, path and a digest of its body. The same
    #: key with another fingerprint is refused.
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
                raise InvalidArgumentError(f"{what} of a key lies within {low} and {high}")

    def to_saved(self) -> "SavedKey":
        """Return what is kept of it outside of the ledger."""
        return SavedKey(
            key_digest=self.key_digest,
            fingerprint_digest=self.fingerprint_digest,
            lifetime_ms=self.lifetime_ms,
            lease_ms=self.lease_ms,
            keys_max=self.keys_max,
        )

    @property
    def key_digest(self) -> bytes:
        """The key in 16 bytes, whatever its length."""
        return _digest(self.key)

    @property
    def fingerprint_digest(self) -> bytes:
        """The fingerprint in 16 bytes, whatever its length."""
        return _digest(self.fingerprint)


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedKey:
    """The key of a request that is over, without what it was made of."""

    key_digest: bytes
    fingerprint_digest: bytes
    lifetime_ms: int
    lease_ms: int
    keys_max: int


def check_idempotency_key(text: object) -> str:
    """Return an idempotency key if it is one.

    Raises:
        InvalidArgumentError: It is empty, no text that can be encoded, or too long.
    """
    with suppress(UnicodeEncodeError):
        if isinstance(text, str) and 0 < len(text.encode()) <= KEY_BYTES_MAX:
            return text
    raise InvalidArgumentError(f"an idempotency key is text of 1 to {KEY_BYTES_MAX} bytes")


def id_of_idempotency_key(user_id: UUID, text: str) -> CreditTransactionId:
    """Return the id that stands for a user's key, for what is written once for it, for good.

    `faregate.add_credits` computes the same one.
    """
    return CreditTransactionId.derive(f"key:{check_idempotency_key(text)}", check_user_id(user_id))


def _digest(text: str) -> bytes:
    return sha256(text.encode(errors="surrogatepass")).digest()[:_DIGEST_BYTES]
