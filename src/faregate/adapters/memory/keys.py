"""Idempotency keys in plain dicts."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from uuid import UUID

from faregate.adapters.memory.expiring import Expiring
from faregate.adapters.memory.shard import Recorded
from faregate.domain.idempotency import Completion, IdempotencyKey, KeptKey
from faregate.domain.transaction import CreditTransactionId


@dataclass(slots=True)
class KeyEntry:
    """The first request with a key, and whether it has been served."""

    digest: bytes
    fingerprint: bytes
    #: The record of the first request.
    first: Recorded
    made_at_ms: int
    leased_at_ms: int
    #: The attempt that was the last to be let in, or that was served.
    holder: CreditTransactionId
    is_done: bool = False

    @property
    def id(self) -> CreditTransactionId:
        """The id of the charge or hold."""
        return self.first.record.id


@dataclass(slots=True)
class _Turn:
    """The keys that were made in one stretch of their lifetime."""

    number: int
    entries: dict[bytes, KeyEntry] = field(default_factory=dict)


class IdempotencyKeys:
    """The keys of allowed requests, each for its lifetime. Two turns of a user alternate."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._turns: Expiring[tuple[UUID, int], _Turn] = Expiring(clock)
        self._responses: Expiring[CreditTransactionId, bytes] = Expiring(clock)

    def known(self, user_id: UUID, key: IdempotencyKey | KeptKey, now_ms: int) -> KeyEntry | None:
        """Return the entry of a key that still counts."""
        for turn in self._turns_of(user_id):
            entry = turn.entries.get(key.key_digest)
            if entry is not None and now_ms - entry.made_at_ms < key.lifetime_ms:
                return entry
        return None

    def is_full(self, user_id: UUID, key: IdempotencyKey | KeptKey, now_ms: int) -> bool:
        """Say whether there is no room for one more key of the user."""
        number = now_ms // key.lifetime_ms
        turn = self._turns.get((user_id, number % 2))
        return turn is not None and turn.number == number and len(turn.entries) >= key.keys_max

    def keep(
        self, user_id: UUID, key: IdempotencyKey | KeptKey, first: Recorded, now_ms: int
    ) -> KeyEntry:
        """Remember the key of a spend that was taken just now."""
        number = now_ms // key.lifetime_ms
        turn = self._turns.get((user_id, number % 2))
        if turn is None or turn.number != number:
            turn = _Turn(number)
            self._turns.put((user_id, number % 2), turn, 2 * key.lifetime_ms)
        entry = KeyEntry(
            digest=key.key_digest,
            fingerprint=key.fingerprint_digest,
            first=first,
            made_at_ms=now_ms,
            leased_at_ms=now_ms,
            holder=first.record.id,
        )
        turn.entries[key.key_digest] = entry
        return entry

    def complete(self, completion: Completion) -> bool:
        """Note that a request has been served, and keep its response."""
        identity = completion.transaction_id
        attempt_id = completion.attempt_id or identity
        is_known = self.end(completion.user_id, identity, is_served=True, attempt_id=attempt_id)
        if is_known and completion.response:
            self._responses.put(identity, completion.response, completion.keep_ms)
        return is_known

    def response(self, transaction_id: CreditTransactionId) -> bytes | None:
        """Return the response that was kept, as long as it is."""
        return self._responses.get(transaction_id)

    def end(
        self,
        user_id: UUID,
        identity: CreditTransactionId,
        *,
        is_served: bool,
        attempt_id: CreditTransactionId | None = None,
    ) -> bool:
        """Note that a request has been served, or forget its key so that it may be made again."""
        for turn in self._turns_of(user_id):
            for entry in turn.entries.values():
                if entry.id != identity:
                    continue
                if not is_served:
                    del turn.entries[entry.digest]
                    return True
                if attempt_id is not None and not entry.is_done:
                    entry.holder = attempt_id
                entry.is_done = True
                return True
        return False

    def of(self, user_id: UUID, identity: CreditTransactionId) -> KeyEntry | None:
        """Return the entry of a charge or hold, if it had a key that is known."""
        for turn in self._turns_of(user_id):
            for entry in turn.entries.values():
                if entry.id == identity:
                    return entry
        return None

    def is_anothers(
        self,
        user_id: UUID,
        identity: CreditTransactionId,
        attempt_id: CreditTransactionId | None,
    ) -> bool:
        """Say whether another attempt was the last to be let in, or was served."""
        entry = self.of(user_id, identity)
        return entry is not None and attempt_id is not None and entry.holder != attempt_id

    def _turns_of(self, user_id: UUID) -> Iterator[_Turn]:
        for parity in (0, 1):
            turn = self._turns.get((user_id, parity))
            if turn is not None:
                yield turn
