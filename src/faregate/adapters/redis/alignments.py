"""Live accounts for operators: read together with their shards, and aligned with their ledgers."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Self
from uuid import UUID

from faregate.adapters.redis import keys
from faregate.adapters.redis.client import Client, checked
from faregate.adapters.redis.link import Argument
from faregate.adapters.redis.replies import error_of
from faregate.adapters.redis.routes import Address
from faregate.adapters.redis.urls import check_url
from faregate.adapters.redis.values import Account, ShardState
from faregate.domain.alignment import Aligned, Alignment, AlignmentOutcome, LiveAccount
from faregate.domain.errors import LedgerCorruptError, LedgerUninitialisedError
from faregate.domain.texts import encode_description, encode_metadata
from faregate.domain.transaction import transaction_id_of
from faregate.domain.user import User

_OUTCOMES = {outcome.value for outcome in AlignmentOutcome}


class RedisAccounts:
    """The port `LiveAccounts`."""

    def __init__(self, address: Address, shard_count: int) -> None:
        """Connect at first use."""
        self._client = Client(address)
        self._shards = keys.shards(shard_count)

    @classmethod
    def from_url(cls, url: str, shard_count: int) -> Self:
        """Connect at first use, and never repeat a command."""
        return cls(check_url(url), shard_count)

    def read(self, user_ids: Sequence[UUID]) -> Mapping[UUID, LiveAccount]:
        """Return all accounts, including missing ones; see the port."""
        by_shard: defaultdict[keys.Shard, list[UUID]] = defaultdict(list)
        for user_id in dict.fromkeys(user_ids):
            by_shard[keys.shard_for(user_id, self._shards)].append(user_id)
        found = {}
        for shard, users in by_shard.items():
            # One command reads accounts and the state of their shard at one time.
            names = [shard.state, *map(shard.account, _bytes(users))]
            names += map(shard.last_alignment, _bytes(users))
            time, values = map(
                checked, self._client.ask_all([(shard, ("TIME",)), (shard, ("MGET", *names))])
            )
            state = _state(values[0])
            at_ms = max(int(time[0]) * 1_000 + int(time[1]) // 1_000, state.last_us // 1_000)
            accounts, last = values[1 : 1 + len(users)], values[1 + len(users) :]
            for user_id, packed, last_id in zip(users, accounts, last, strict=True):
                found[user_id] = LiveAccount(
                    user_id=user_id,
                    shard=shard.number,
                    epoch=state.epoch,
                    ordinal=state.ordinal,
                    at_ms=at_ms,
                    user=(user := _user(user_id, state.epoch, packed)),
                    last_id=None if last_id is None else transaction_id_of(last_id),
                    is_unreadable=user is None and packed is not None,
                )
        return found

    def align(self, alignment: Alignment) -> Aligned:
        """Align a live balance with its ledger; see the port."""
        user_id = alignment.drift.user_id
        shard = keys.shard_for(user_id, self._shards)
        names = shard.state, shard.stream, shard.account(user_id.bytes)
        reply = self._client.run("align", shard, names, *_arguments(alignment))
        status = reply[0].decode()
        about = f"the alignment of user {user_id}"
        if status == "epoch":
            raise LedgerUninitialisedError(
                f"{about} was measured in epoch {alignment.drift.epoch}, which is over"
            )
        if status not in _OUTCOMES:
            raise error_of(status, about)
        return Aligned(
            outcome=AlignmentOutcome(status),
            credits=reply[1],
            sequence=reply[2],
            credits_before=reply[6],
            sequence_before=reply[7],
        )

    def close(self) -> None:
        """Close all connections."""
        self._client.close()


def _bytes(user_ids: Sequence[UUID]) -> list[bytes]:
    return [user_id.bytes for user_id in user_ids]


def _state(packed: bytes | None) -> ShardState:
    if packed is None:
        raise LedgerUninitialisedError("Redis is empty: it was wiped, and must be rebuilt")
    return ShardState.unpack(packed)


def _user(user_id: UUID, epoch: int, packed: bytes | None) -> User | None:
    """Return the user of an account. An unreadable account counts as a lost one."""
    if packed is None:
        return None
    try:
        return Account.unpack(packed).user(user_id, epoch)
    except LedgerCorruptError:
        return None


def _arguments(alignment: Alignment) -> tuple[Argument, ...]:
    drift, record = alignment.drift, alignment.record
    last_id = drift.account.last_id
    return (
        alignment.id.bytes,
        b"" if last_id is None else last_id.bytes,
        drift.epoch,
        alignment.deadline_ms,
        int(drift.account.user is None),
        drift.amount,
        drift.allowance_amount,
        drift.sequence_min,
        drift.period_start_ms,
        b"" if record is None else record.type.value,
        b"" if record is None else encode_description(record.description),
        b"" if record is None else encode_metadata(record.metadata),
    )
