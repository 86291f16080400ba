"""A ledger that somebody has laid hands on: what is found, and what a repair makes of it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from redis import Redis

from commands import CommandLine
from faregate.adapters.redis import keys
from faregate.adapters.redis.values import Account
from operated import WHO, Ledger

APPLY = ("--apply", *WHO)
#: What a repair changes.
_TABLES = (
    "public.credit_transactions",
    "public.profiles",
    "faregate.repairs",
    "faregate.acknowledgements",
)


class Sabotaged:
    """The ledger of a test."""

    def __init__(self, operated: Ledger, command_line: CommandLine) -> None:
        self.operated = operated
        self.user = operated.user
        self.run = operated.tables.run
        self._command_line = command_line

    @classmethod
    def after(
        cls, operated: Ledger, command_line: CommandLine, *, granted: int = 0, charges: int = 2
    ) -> "Sabotaged":
        """Return a ledger whose user was given credits, and charged one credit each time."""
        if granted:
            operated.ask(lambda gate: gate.grant(operated.user, granted))
        for _ in range(charges):
            operated.charge()
        operated.drain()
        return cls(operated, command_line)

    def findings(self) -> list[dict[str, Any]]:
        """All that reconcile and verify find and nobody has accepted."""
        found = {}
        for command in ("reconcile", "verify"):
            said = self._command_line.run(command)
            told = self._command_line.tell(command, code=said.code)
            assert said.code == (1 if told["findings"] else 0)
            found.update({one["id"]: one for one in told["findings"]})
        return list(found.values())

    def kinds(self) -> list[str]:
        """The kinds of what is found, sorted."""
        return sorted(one["kind"] for one in self.findings())

    def accepted(self) -> list[str]:
        """The kinds of what is found and accepted."""
        return [one["kind"] for one in self._command_line.tell("verify")["acknowledged"]]

    def shown(self, *words: object) -> list[dict[str, Any]]:
        """The steps that a repair would take, which has changed nothing."""
        before = self.tables()
        told = self._command_line.tell("repair", *words, code=1)
        assert (told["applied"], self.tables()) == (False, before)
        steps: list[dict[str, Any]] = told["steps"]
        return steps

    def repaired(self, *words: object, code: int = 0) -> list[str]:
        """Repair all, or what is named, and return what was done."""
        told = self._command_line.tell("repair", *words, *APPLY, code=code)
        if not code:
            assert self.findings() == told["left"] == []
            again = self._command_line.tell("repair", *APPLY)
            assert (again["steps"], again["left"]) == ([], [])
        done = [step["action"] for step in told["steps"]]
        events = self.events()[-len(done) :] if done else []
        assert [event["action"] for event in events] == done
        assert {(one["actor"], one["reason"]) for one in events} <= {("ann", "ticket 7")}
        assert all(one["ended_at"] for one in events)
        return done

    def events(self) -> list[dict[str, Any]]:
        """What repairs have noted, in order."""
        return self.run("select * from faregate.repairs where action <> 'open' order by begun_at")

    def tables(self) -> Sequence[object]:
        """All that a repair could change in Postgres."""
        return [self.run(f"select t::text from {name} as t order by 1") for name in _TABLES]  # noqa: S608

    def forge(self, statement: str, *parameters: object) -> None:
        """Change rows behind their guards."""
        self.run("set session_replication_role = replica")
        self.run(statement, *parameters)
        self.run("set session_replication_role = origin")

    def forget_records(self, client: Redis) -> None:
        """Empty all streams, as the worker does long after records have become rows."""
        for shard in keys.shards(self._shard_count):
            client.xtrim(shard.stream, maxlen=0, approximate=False)

    def lose_newest(self, client: Redis) -> None:
        """Delete the newest entry of the user's stream."""
        name = keys.shards(self._shard_count)[keys.shard_of(self.user, self._shard_count)].stream
        newest: Any = client.xrevrange(name, count=1)
        client.xdel(name, newest[0][0])

    def alter(self, client: Redis, amount: int) -> None:
        """Add to the live balance past the scripts."""
        name = keys.account(self.user, self._shard_count)
        packed: Any = client.get(name)
        account = Account.unpack(packed)
        client.set(name, replace(account, credits=account.credits + amount).pack())

    def lose_account(self, client: Redis) -> None:
        """Delete the live balance."""
        client.delete(keys.account(self.user, self._shard_count))

    @property
    def _shard_count(self) -> int:
        return self.operated.settings.shard_count
