"""Idempotency keys in plain dicts."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from uuid import UUID

from faregate.adapters.memory.expiring import Expiring
from faregate.domain.decision import Decision, Verdict
from faregate.domain.idempotency import Completion, KeyState
from faregate.domain.journal import JournalEntry
from faregate.domain.request import Charge
from faregate.domain.transaction import CreditTransactionId


@dataclass(slots=True)
class _Entry:
    """The first request with a key, and whether it has been served."""

    decision: Decision
    fingerprint: bytes
    made_at_ms: int
    leased_at_ms: int
    #: Since keys are counted by stretches of one lifetime: the one in which this was made.
    turn: int
    #: The attempt that was the last to be let in, or that was served.
    holder: CreditTransactionId
    is_done: bool = False


class RememberedKeys:
    """The keys of allowed requests, each for its lifetime."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._entries: dict[tuple[UUID, bytes], _Entry] = {}
        self._responses: Expiring[CreditTransactionId, bytes] = Expiring(now_ms)

    def recognise(self, charge: Charge, blank: Decision, now_ms: int) -> Decision | None:
        """Answer a request whose key is known; None for one that is to be decided.

        One that was not completed in time is taken over, by one request for each lease.
        """
        key, entry = charge.key, self._known(charge, now_ms)
        if key is None or entry is None:
            return None
        if entry.fingerprint != key.fingerprint_digest:
            return replace(blank, verdict=Verdict.KEY_REUSED)
        is_holder = entry.holder == charge.transaction_id
        if is_holder and not entry.is_done and entry.decision.transaction_id == entry.holder:
            return None
        state = KeyState.DONE
        if not entry.is_done:
            is_leased = now_ms - entry.leased_at_ms < key.lease_ms and not is_holder
            state = KeyState.IN_FLIGHT if is_leased else KeyState.TAKEN_OVER
        if state is KeyState.TAKEN_OVER and not is_holder:
            entry.leased_at_ms, entry.holder = now_ms, charge.transaction_id
        return replace(
            entry.decision,
            position="",
            repeated=True,
            resets_at_ms=blank.resets_at_ms,
            key_state=state,
            attempt_id=charge.transaction_id,
        )

    def is_full(self, charge: Charge | JournalEntry, now_ms: int) -> bool:
        """Say whether there is no room for one more key of the user."""
        key = charge.key
        if key is None:
            return False
        turn = now_ms // key.lifetime_ms
        mine = (
            entry.turn == turn
            for (user_id, _), entry in self._entries.items()
            if user_id == charge.user_id
        )
        return sum(mine) >= key.keys_max

    def keep(self, charge: Charge | JournalEntry, decision: Decision, now_ms: int) -> Decision:
        """Remember the key of what was taken just now; return the decision with its state."""
        key = charge.key
        if key is None:
            return decision
        self._entries[charge.user_id, key.key_digest] = _Entry(
            decision=decision,
            fingerprint=key.fingerprint_digest,
            made_at_ms=now_ms,
            leased_at_ms=now_ms,
            turn=now_ms // key.lifetime_ms,
            holder=decision.transaction_id,
        )
        return replace(decision, key_state=KeyState.NEW)

    def knows(self, entry: JournalEntry, now_ms: int) -> bool:
        """Say whether a request with the key of a journaled one was allowed otherwise."""
        known = self._known(entry, now_ms)
        return (
            known is not None
            and entry.key is not None
            and known.fingerprint == entry.key.fingerprint_digest
        )

    def keep_served(self, entry: JournalEntry, decision: Decision, now_ms: int) -> None:
        """Remember the key of a journaled request as served, if it is free and there is room."""
        if entry.key is None or self._known(entry, now_ms) or self.is_full(entry, now_ms):
            return
        self.keep(entry, decision, now_ms)
        self.end(entry.user_id, decision.transaction_id, is_served=True)

    def _known(self, request: Charge | JournalEntry, now_ms: int) -> _Entry | None:
        """Return the entry of a key that still counts."""
        key = request.key
        entry = None if key is None else self._entries.get((request.user_id, key.key_digest))
        if key is None or entry is None or now_ms - entry.made_at_ms >= key.lifetime_ms:
            return None
        return entry

    def complete(self, completion: Completion) -> bool:
        """Note that a request has been served, and keep its response."""
        identity = completion.transaction_id
        attempt = completion.attempt_id or identity
        is_known = self.end(completion.user_id, identity, is_served=True, attempt=attempt)
        if is_known and completion.response:
            self._responses.put(identity, completion.response, completion.keep_ms)
        return is_known

    def response(self, transaction_id: CreditTransactionId) -> bytes | None:
        """Return the response that was kept, as long as it is."""
        return self._responses.get(transaction_id)

    def end(
        self,
        user_id: UUID,
        transaction_id: CreditTransactionId,
        *,
        is_served: bool,
        attempt: CreditTransactionId | None = None,
    ) -> bool:
        """Note that a request has been served, or forget its key so that it may be made again."""
        name = self._name_of(user_id, transaction_id)
        if name is not None and is_served:
            entry = self._entries[name]
            if attempt is not None and not entry.is_done:
                entry.holder = attempt
            entry.is_done = True
        elif name is not None:
            del self._entries[name]
        return name is not None

    def is_done(self, user_id: UUID, transaction_id: CreditTransactionId) -> bool:
        """Say whether the request of a charge or hold has been served."""
        name = self._name_of(user_id, transaction_id)
        return name is not None and self._entries[name].is_done

    def is_anothers(
        self,
        user_id: UUID,
        transaction_id: CreditTransactionId,
        attempt: CreditTransactionId | None,
    ) -> bool:
        """Say whether another attempt than `attempt` was the last to be let in, or was served."""
        name = self._name_of(user_id, transaction_id)
        return name is not None and attempt is not None and self._entries[name].holder != attempt

    def _name_of(
        self, user_id: UUID, transaction_id: CreditTransactionId
    ) -> tuple[UUID, bytes] | None:
        """Return by what the entry of a charge or hold is found, if its key is known."""
        for name, entry in self._entries.items():
            if name[0] == user_id and entry.decision.transaction_id == transaction_id:
                return name
        return None
