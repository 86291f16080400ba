"""Adds credits for the worker, many at once, by the scripts of a gate."""

from collections.abc import Sequence
from typing import Any, Self
from uuid import UUID

from faregate.adapters.redis import keys
from faregate.adapters.redis.changes import credit_arguments
from faregate.adapters.redis.client import Client, Run, checked
from faregate.adapters.redis.link import Argument
from faregate.adapters.redis.replies import read_decision
from faregate.adapters.redis.routes import Address
from faregate.adapters.redis.urls import check_url
from faregate.domain.decision import Decision
from faregate.domain.errors import FaregateError, LedgerUnavailableError
from faregate.domain.request import Credit


class RedisCredits:
    """The port `Credits`."""

    def __init__(self, address: Address, shard_count: int) -> None:
        """Connect at first use."""
        self._client = Client(address)
        self._shards = keys.shards(shard_count)

    @classmethod
    def from_url(cls, url: str, shard_count: int) -> Self:
        """Connect at first use, and never repeat a command."""
        return cls(check_url(url), shard_count)

    def add(self, credits_: Sequence[Credit]) -> Sequence[Decision | FaregateError]:
        """Add credits, each once for its id; see the port."""
        runs: list[Run] = []
        problems: dict[int, FaregateError] = {}
        for place, credit in enumerate(credits_):
            try:
                runs.append((*self._place(credit.user_id), _arguments(credit)))
            except FaregateError as error:
                problems[place] = error
        made = self._client.run_all("credit", runs)
        if made and all(isinstance(reply, LedgerUnavailableError) for reply in made):
            checked(made[0])
        replies = iter(made)
        return [
            problems[place] if place in problems else _answer(credit, next(replies))
            for place, credit in enumerate(credits_)
        ]

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def _place(self, user_id: UUID) -> tuple[keys.Shard, tuple[bytes, ...]]:
        shard = keys.shard_for(user_id, self._shards)
        return shard, (shard.state, shard.stream, shard.account(user_id.bytes))


def _arguments(credit: Credit) -> tuple[Argument, ...]:
    before, after = credit_arguments(credit)
    # The ids of orders carry no time, so the script does not search.
    return (*before, b"", *after)


def _answer(credit: Credit, reply: Any) -> Decision | FaregateError:
    try:
        status, *rest = checked(reply)
        fields = [status.decode(), *rest]
        return read_decision(fields, credit.user_id, credit.transaction_id, credit.amount)
    except FaregateError as error:
        return error
