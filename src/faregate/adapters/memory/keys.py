"""Idempotency keys in plain dicts."""

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from faregate.adapters.memory.state import Records
from faregate.adapters.memory.values import Expiring
from faregate.domain.idempotency import Completion, IdempotencyKey, SavedKey
from faregate.domain.transaction import CreditTransaction, CreditTransactionId


@dataclass(slots=True)
class IdempotencyKeyLease:
    """The first request with a key, and whether it has been served."""

    fingerprint: bytes
    #: The record of the first request.
    first: CreditTransaction
    made_at_ms: int
    leased_at_ms: int
    #: The attempt that holds the lease, or the one that was served.
    holder: CreditTransactionId
    is_done: bool = False


class IdempotencyKeys:
    """The keys of allowed requests, in generations: each lasts one lifetime of a key."""

    def __init__(self, records: Records) -> None:
        self._records = records
        #: By user and number of the generation.
        self._generations: Expiring[tuple[UUID, int], dict[bytes, IdempotencyKeyLease]] = Expiring(
            records.time_ms
        )
        self._responses: Expiring[CreditTransactionId, bytes] = Expiring(records.time_ms)

    def known(
        self, user_id: UUID, key: IdempotencyKey | SavedKey, now_ms: int
    ) -> IdempotencyKeyLease | None:
        """Return the lease of a key whose lifetime has not ended."""
        for generation in self._generations_of(user_id):
            lease = generation.get(key.key_digest)
            if lease is not None and now_ms - lease.made_at_ms < key.lifetime_ms:
                return lease
        return None

    def is_full(self, user_id: UUID, key: IdempotencyKey | SavedKey, now_ms: int) -> bool:
        """Return whether the user has no room for one more key."""
        generation = self._generations.get((user_id, now_ms // key.lifetime_ms)) or {}
        return len(generation) >= key.keys_max

    def save(self, key: IdempotencyKey | SavedKey, first: CreditTransaction, now_ms: int) -> None:
        """Save the key of a spend that was made just now."""
        number = now_ms // key.lifetime_ms
        generation = self._generations.get((first.user_id, number))
        if generation is None:
            generation = {}
            self._generations.put((first.user_id, number), generation, 2 * key.lifetime_ms)
            # Two generations alternate, so the one before last ends.
            self._generations.put((first.user_id, number - 2), {}, 0)
        generation[key.key_digest] = IdempotencyKeyLease(
            key.fingerprint_digest, first, now_ms, now_ms, first.id
        )

    async def complete(self, completion: Completion) -> bool:
        """Note that a request has been served, and save its response; see the port."""
        self._records.begin()
        identity = completion.transaction_id
        is_known = self.serve(completion.user_id, identity, completion.attempt_id or identity)
        if is_known and completion.response:
            self._responses.put(identity, completion.response, completion.lifetime_ms)
        return is_known

    async def response(self, _user_id: UUID, transaction_id: CreditTransactionId) -> bytes | None:
        """Return a saved response; see the port."""
        return self._responses.get(transaction_id)

    def serve(
        self,
        user_id: UUID,
        identity: CreditTransactionId,
        attempt_id: CreditTransactionId | None,
    ) -> bool:
        """Note that a charge or hold was served; return False if it has no known key."""
        lease = self.of(user_id, identity)
        if lease is None:
            return False
        if attempt_id is not None and not lease.is_done:
            lease.holder = attempt_id
        lease.is_done = True
        return True

    def forget(self, user_id: UUID, identity: CreditTransactionId) -> None:
        """Delete the key of a charge or hold, so that the request may be made again."""
        for generation in self._generations_of(user_id):
            for digest, lease in list(generation.items()):
                if lease.first.id == identity:
                    del generation[digest]

    def of(self, user_id: UUID, identity: CreditTransactionId) -> IdempotencyKeyLease | None:
        """Return the lease of a charge or hold that had a key, while the key is known."""
        entries = (
            lease for generation in self._generations_of(user_id) for lease in generation.values()
        )
        return next((lease for lease in entries if lease.first.id == identity), None)

    def is_leased_to_another(
        self,
        user_id: UUID,
        identity: CreditTransactionId,
        attempt_id: CreditTransactionId | None,
    ) -> bool:
        """Return whether another attempt holds the lease, or was served."""
        lease = self.of(user_id, identity)
        return lease is not None and attempt_id is not None and lease.holder != attempt_id

    def _generations_of(self, user_id: UUID) -> Iterator[dict[bytes, IdempotencyKeyLease]]:
        return (
            generation
            for (owner, _), generation in self._generations.all().items()
            if owner == user_id
        )
