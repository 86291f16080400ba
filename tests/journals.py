"""Entries of a journal for tests, what its files say, and a ledger that cannot be reached."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self, Unpack
from uuid import UUID, uuid4

from faregate import CreditPolicy, FailureMode, Gate, PolicySet
from faregate.adapters.journal.reader import FileJournalReader, find_journals
from faregate.adapters.memory.store import MemoryStore
from faregate.domain.decision import Decision
from faregate.domain.errors import JournalError
from faregate.domain.health import JournalState
from faregate.domain.journal import Collected, JournalChange, JournalEntry
from faregate.domain.policy import BreakerOptions, GateOptions
from faregate.domain.transaction import CreditTransactionId
from faregate.gate import ChargeOptions
from lossy_ledger import Clock, LossyLedger

USER = UUID(int=1)


def entry(number: int = 1, **rest: object) -> JournalEntry:
    """Return the entry that a number stands for; it costs as much."""
    return JournalEntry(
        attempt_id=CreditTransactionId.derive("attempt", UUID(int=number)),
        user_id=USER,
        cost=number,
        description="request",
        asked_at_ms=number,
        deadline_ms=number + 50,
        served_at_ms=number,
        **rest,  # type: ignore[arg-type]
    )


def refund_of(entry: JournalEntry, amount: int | None = None) -> JournalChange:
    """Return the refund of all of an entry, or of a part."""
    return JournalChange(
        attempt_id=entry.attempt_id,
        user_id=entry.user_id,
        refund_id=CreditTransactionId.derive(f"refund {amount}", entry.attempt_id.value),
        amount=amount,
    )


def contents(reader: FileJournalReader, start: int = 0) -> list[object]:
    """Return what all lines say, or why they say nothing."""
    return [line.content or line.problem for line in reader.lines(start, reader.size())]


def read(folder: Path) -> list[object]:
    """Return what all files in a folder say, in the order of their names."""
    return [line for reader in find_journals([folder]) for line in contents(reader)]


class ListJournal:
    """The port `Journal` in a list, which may be full."""

    def __init__(self) -> None:
        self.lines: list[JournalEntry | JournalChange] = []
        self.is_full = False

    def write(self, line: JournalEntry | JournalChange) -> None:
        if self.is_full:
            raise JournalError("the journal is full")
        self.lines.append(line)

    @property
    def entries(self) -> list[JournalEntry]:
        return [line for line in self.lines if isinstance(line, JournalEntry)]

    @property
    def changes(self) -> list[JournalChange]:
        return [line for line in self.lines if isinstance(line, JournalChange)]

    @property
    def state(self) -> JournalState:
        return JournalState(requests=len(self.entries), bytes=0, bytes_max=1)

    async def aclose(self) -> None:
        """There is nothing to close."""


#: No number of failures opens the breaker: these tests are about served requests.
OPTIONS = GateOptions(provision_users=True, breaker=BreakerOptions(failures_max=1_000))
POLICIES = PolicySet(tiers={"default": CreditPolicy(), "admin": CreditPolicy(is_unlimited=True)})


@dataclass(slots=True)
class Outage:
    """A gate whose ledger can fail, with a user of three credits whom the ledger knows."""

    clock: Clock
    ledger: LossyLedger
    store: MemoryStore
    journal: ListJournal
    gate: Gate
    user_id: UUID

    @classmethod
    async def prepare(cls, options: GateOptions = OPTIONS) -> Self:
        """Begin while all is well."""
        clock, store, journal = Clock(), MemoryStore(starting_credits=3), ListJournal()
        ledger = LossyLedger(clock)
        gate = Gate(ledger, store, POLICIES, options, journal=journal)
        outage = cls(clock, ledger, store, journal, gate, uuid4())
        assert await outage.live() == 3
        return outage

    async def charge(self, cost: int | None = None, **options: Unpack[ChargeOptions]) -> Decision:
        """Charge the user for a request that is to be served in any case."""
        options["on_failure"] = FailureMode.OPEN
        return await self.gate.charge(self.user_id, cost=cost, **options)

    async def live(self) -> int:
        """Return the credits of the user."""
        user = await self.gate.balance(self.user_id)
        assert user is not None
        return user.credits

    async def collect(self) -> list[Collected]:
        """Collect all that is in the journal, twice, as an import that was killed in between."""
        outcomes = []
        for _ in range(2):
            outcomes = [
                await self.gate.collect(one, self.changes_of(one)) for one in self.journal.entries
            ]
        return outcomes

    def changes_of(self, entry: JournalEntry) -> list[JournalChange]:
        """Return the changes of an entry."""
        return [one for one in self.journal.changes if one.attempt_id == entry.attempt_id]


def entries_in(folder: Path) -> Iterator[JournalEntry]:
    """Return what lies in journals, those that were put away included."""
    for path in folder.glob("*.imported"):
        path.rename(path.with_suffix(""))
    for reader in find_journals([folder]):
        for line in reader.lines(0, reader.size()):
            if isinstance(line.content, JournalEntry):
                yield line.content
