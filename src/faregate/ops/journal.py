"""Imports journals: requests that were served without a decision become transactions.

Every step is idempotent. An entry is collected under an id that is derived from its attempt. So it
is charged once, even if an import is killed, or two imports read the same lines. A file is retired
after all of its lines are collected, including lines that its process writes meanwhile.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol, TypeAlias
from uuid import UUID

from faregate.domain.journal import Collected, Collection, JournalChange, JournalEntry
from faregate.domain.transaction import CreditTransactionId
from faregate.ports import JournalFile, JournalLine

#: How many entries are collected at once.
COUNT_AT_ONCE = 32
#: How often a growing file is read on before it is left to the next import.
ROUNDS_MAX = 10

Progress = Callable[[int], None]
_Changes: TypeAlias = Mapping[CreditTransactionId, Sequence[JournalChange]]


class Collector(Protocol):
    """Collects entries. The gate implements it."""

    def collect(
        self, entry: JournalEntry, changes: Sequence[JournalChange] = ()
    ) -> Coroutine[None, None, Collected]:
        """Charge a journaled request, once."""
        ...

    async def follow(self, change: JournalChange) -> Collected:
        """Apply a change to an entry that was collected before."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalProblem:
    """A line that cannot become a transaction without an operator."""

    file: str
    #: The number of the line, from 1.
    line: int
    #: The reason, for people.
    detail: str
    #: The user and the cost, if they could be read.
    user_id: UUID | None = None
    cost: int | None = None


@dataclass(slots=True)
class JournalImport:
    """The result of an import."""

    #: The number of entries by outcome.
    outcomes: Counter[Collection] = field(default_factory=Counter)
    #: The credits that were charged, and those that could not be charged.
    charged: int = 0
    shortfall: int = 0
    problems: list[JournalProblem] = field(default_factory=list)
    #: The files that were retired, and those to import again.
    files_done: list[str] = field(default_factory=list)
    files_left: list[str] = field(default_factory=list)
    #: The number of files with an incomplete last line, whose request was not served.
    torn_files: int = 0

    @property
    def entry_count(self) -> int:
        """The number of entries that were read."""
        return self.outcomes.total()

    @property
    def is_exact(self) -> bool:
        """Whether every line was collected."""
        return not self.problems


async def import_journals(
    collector: Collector, files: Sequence[JournalFile], on_progress: Progress | None = None
) -> JournalImport:
    """Collect all entries of some journals, and retire the journals that are done.

    Args:
        collector: The gate.
        files: The journals, locked for this import.
        on_progress: Called with the number of entries that were read.

    Raises:
        LedgerError, ArchiveUnavailableError: A server does not answer. Import the files that are
            not retired again.
    """
    run = _Run(collector, on_progress or (lambda _: None))
    for file in files:
        await run.import_file(file)
    return run.result


class _Run:
    """One import of all its files."""

    def __init__(self, collector: Collector, on_progress: Progress) -> None:
        self.result = JournalImport()
        self._collector = collector
        self._on_progress = on_progress
        #: By idempotency key: the request that is charged for all with that key, and its time.
        self._charged: dict[tuple[UUID, bytes, bytes], tuple[CreditTransactionId, int]] = {}

    async def import_file(self, file: JournalFile) -> None:
        """Collect a file, including lines that are added meanwhile, and retire it."""
        start = 0
        open_before = self.result.outcomes[Collection.OPEN]
        for _ in range(ROUNDS_MAX):
            end = file.size()
            await self._import_part(file, start, end)
            is_open = self.result.outcomes[Collection.OPEN] > open_before
            if not is_open and file.retire(end):
                self.result.files_done.append(file.name)
                self.result.torn_files += file.is_torn
                return
            if is_open:
                break
            start = end
        self.result.files_left.append(file.name)

    async def _import_part(self, file: JournalFile, start: int, end: int) -> None:
        """Collect the lines between two places. Changes follow the entries that they change."""
        changes: defaultdict[CreditTransactionId, list[JournalChange]] = defaultdict(list)
        for line in file.lines(start, end):
            if isinstance(line.content, JournalChange):
                changes[line.content.attempt_id].append(line.content)
        unmet = set(changes)
        lines = file.lines(start, end)
        while batch := list(islice(lines, COUNT_AT_ONCE)):
            entries = [line for line in batch if not isinstance(line.content, JournalChange)]
            unmet -= await self._import_lines(file, entries, changes)
        for line in file.lines(start, end):
            if isinstance(line.content, JournalChange) and line.content.attempt_id in unmet:
                followed = await self._collector.follow(line.content)
                if followed.outcome is Collection.REFUSED:
                    self._report(file, line, followed.reason)

    async def _import_lines(
        self, file: JournalFile, lines: Sequence[JournalLine], changes: _Changes
    ) -> set[CreditTransactionId]:
        """Collect entries at the same time; return the ids of their attempts."""
        found: list[tuple[JournalLine, JournalEntry]] = []
        for line in lines:
            if isinstance(line.content, JournalEntry):
                found.append((line, line.content))
            else:
                self._report(file, line, line.problem)
        coroutines = [self._collect(entry, changes.get(entry.attempt_id, ())) for _, entry in found]
        for (line, entry), collected in zip(found, await _all(coroutines), strict=True):
            self.result.outcomes[collected.outcome] += 1
            self.result.charged += collected.charged
            self.result.shortfall += collected.shortfall
            if collected.outcome is Collection.UNKNOWN_USER:
                self._report(file, line, f"user {entry.user_id} does not exist")
            elif collected.outcome is Collection.REFUSED:
                self._report(file, line, collected.reason)
        self._on_progress(self.result.entry_count)
        return {entry.attempt_id for _, entry in found}

    def _collect(
        self, entry: JournalEntry, changes: Sequence[JournalChange]
    ) -> Coroutine[None, None, Collected]:
        if self._is_charged_otherwise(entry.changed(changes)):
            # A retry with the same key. If its own attempt was charged, that is given back.
            free = JournalChange(attempt_id=entry.attempt_id, user_id=entry.user_id, cost=0)
            changes = [*changes, free]
        return self._collector.collect(entry, changes)

    def _is_charged_otherwise(self, final: JournalEntry) -> bool:
        """Return whether the first attempt with the same idempotency key is charged instead."""
        key = final.key
        if key is None or not final.owed or final.expires_at_ms is not None:
            return False
        name = final.user_id, key.key_digest, key.fingerprint_digest
        attempt_id, served_at_ms = self._charged.get(name, (final.attempt_id, final.served_at_ms))
        if final.served_at_ms - served_at_ms >= key.lifetime_ms:
            attempt_id, served_at_ms = final.attempt_id, final.served_at_ms
        self._charged[name] = attempt_id, served_at_ms
        return attempt_id != final.attempt_id

    def _report(self, file: JournalFile, line: JournalLine, detail: str) -> None:
        content = line.content
        self.result.problems.append(
            JournalProblem(
                file=file.name,
                line=line.number,
                detail=detail,
                user_id=None if content is None else content.user_id,
                cost=None if content is None else content.cost,
            )
        )


async def _all(coroutines: Sequence[Coroutine[None, None, Collected]]) -> list[Collected]:
    """Wait for all coroutines; raise the first error at the end."""
    outcomes = await asyncio.gather(*coroutines, return_exceptions=True)
    failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    if failed:
        raise failed[0]
    return [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
