"""Importing journals: every line is settled once, and what cannot be is told."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from faregate import CreditTransactionId, Gate
from faregate.adapters.journal.lines import encode
from faregate.adapters.journal.reader import PUT_AWAY, open_journals
from faregate.adapters.journal.writer import SUFFIX, FileJournal
from faregate.domain.errors import LedgerUnavailableError
from faregate.domain.idempotency import IdempotencyKey, SavedKey
from faregate.domain.journal import Collected, Collection, JournalChange, JournalEntry
from faregate.ops.journal import COUNT_AT_ONCE, JournalImport, import_journals
from journals import POLICIES, USER, Outage, entry, refund_of

BYTES_MAX = 2**20
HOUR_MS = 3_600_000


@pytest.fixture
async def outage() -> Outage:
    """All is well again; the user of the entries has three credits."""
    prepared = await Outage.prepare()
    prepared.user_id = USER
    assert await prepared.live() == 3
    return prepared


def write(folder: Path, *lines: JournalEntry | JournalChange) -> None:
    """Write a journal, as one process does."""
    journal = FileJournal(folder, bytes_max=BYTES_MAX)
    for line in lines:
        journal.write(line)
    journal.close()
    # Files are read in the order of their names, which begin with the millisecond.
    time.sleep(0.002)


async def run(gate: Gate, folder: Path) -> JournalImport:
    """Import all journals of a folder."""
    with open_journals([folder]) as files:
        return await import_journals(gate, files)


def counts(result: JournalImport) -> dict[Collection, int]:
    return {outcome: count for outcome, count in result.outcomes.items() if count}


def suffixes(folder: Path) -> list[str]:
    """Tell journals from those that are put away."""
    return [path.suffix for path in folder.iterdir()]


def put_back(folder: Path) -> None:
    """Have files imported again that were put away."""
    for path in folder.glob(f"*{PUT_AWAY}"):
        path.rename(path.with_suffix(""))


async def test_all_that_is_written_is_settled_and_put_away(outage: Outage, tmp_path: Path) -> None:
    """Charges, and those of them that were given back; a second import has nothing to do."""
    write(tmp_path, entry(1), entry(2), refund_of(entry(2)))
    result = await run(outage.gate, tmp_path)
    assert counts(result) == {Collection.COLLECTED: 1, Collection.CANCELLED: 1}
    assert (result.charged, result.shortfall, result.is_exact) == (1, 0, True)
    assert len(result.files_done) == 1
    assert suffixes(tmp_path) == [PUT_AWAY]
    assert await outage.live() == 2
    assert counts(await run(outage.gate, tmp_path)) == {}


async def test_doing_it_twice_is_doing_it_once(outage: Outage, tmp_path: Path) -> None:
    """A file that was put away, and is imported again, changes nothing."""
    write(tmp_path, entry(1), entry(3), refund_of(entry(3), 2), entry(5))
    await run(outage.gate, tmp_path)
    left, records = await outage.live(), len(outage.ledger.pending)
    put_back(tmp_path)
    result = await run(outage.gate, tmp_path)
    assert counts(result) == {Collection.KNOWN: 3}
    assert (await outage.live(), len(outage.ledger.pending)) == (left, records) == (0, 3)


async def test_an_import_that_dies_in_the_middle_is_finished_by_the_next(
    outage: Outage, tmp_path: Path
) -> None:
    """Whatever it had done is known by its id. It dies at each step in turn."""
    entries = [entry(1), replace(entry(2), cost=1), replace(entry(3), cost=1)]
    write(tmp_path, *entries)

    class Dies(Exception):  # noqa: N818 - stands for a kill
        pass

    class Dying:
        def __init__(self, gate: Gate, steps: int) -> None:
            self.gate, self.steps = gate, steps

        async def collect(
            self, entry: JournalEntry, changes: Sequence[JournalChange] = ()
        ) -> Collected:
            if not self.steps:
                raise Dies
            self.steps -= 1
            return await self.gate.collect(entry, changes)

        async def follow(self, change: JournalChange) -> Collected:
            raise Dies

    for steps in range(len(entries)):
        with open_journals([tmp_path]) as files, suppress(Dies):
            await import_journals(Dying(outage.gate, steps), files)
        assert suffixes(tmp_path) == [SUFFIX]
    await run(outage.gate, tmp_path)
    assert await outage.live() == 0
    assert len(outage.ledger.pending) == 3


async def test_two_imports_of_the_same_lines_charge_once(outage: Outage, tmp_path: Path) -> None:
    """On two machines, say, to which the same file was copied."""
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        write(folder, *(replace(entry(number), cost=1) for number in range(1, 4)))
    await asyncio.gather(*(run(outage.gate, folder) for folder in folders))
    assert await outage.live() == 0
    assert len(outage.ledger.pending) == 3


async def test_the_retries_of_a_key_are_charged_once(outage: Outage, tmp_path: Path) -> None:
    """By whichever process they were served, as long as the key counts; the first one stands."""
    key = IdempotencyKey(key="once", lifetime_ms=HOUR_MS, lease_ms=0).to_saved()
    other = replace(key, fingerprint_digest=bytes(16))

    def keyed(number: int, key: SavedKey, at_ms: int) -> JournalEntry:
        return replace(entry(number), cost=1, key=key, served_at_ms=at_ms)

    first, second, third = (keyed(number, key, number) for number in (1, 2, 3))
    write(tmp_path, first, refund_of(first), second)
    write(tmp_path, third, keyed(4, other, 5))
    result = await run(outage.gate, tmp_path)
    assert counts(result) == {Collection.CANCELLED: 2, Collection.COLLECTED: 2}
    ids = {record.id for record in outage.ledger.pending.values()}
    assert second.deduct_id in ids
    put_back(tmp_path)
    await run(outage.gate, tmp_path)
    assert await outage.live() == 1


async def test_a_key_that_is_used_again_after_its_lifetime_is_another_request(
    outage: Outage, tmp_path: Path
) -> None:
    """Two outages lie in one journal."""
    key = IdempotencyKey(key="once", lifetime_ms=HOUR_MS, lease_ms=0).to_saved()
    old = replace(entry(1), cost=1, key=key)
    write(tmp_path, old)
    await run(outage.gate, tmp_path)
    outage.clock.ms += HOUR_MS
    put_back(tmp_path)
    write(tmp_path, replace(entry(2), cost=1, key=key, served_at_ms=old.served_at_ms + HOUR_MS))
    await run(outage.gate, tmp_path)
    assert await outage.live() == 1


async def test_unknown_users_are_reported_and_the_others_charged(
    outage: Outage, tmp_path: Path
) -> None:
    """With place, user and cost, so that somebody can look."""
    stranger = uuid4()
    outage.gate = Gate(outage.ledger, outage.store, POLICIES)
    write(tmp_path, entry(1), replace(entry(2), user_id=stranger))
    result = await run(outage.gate, tmp_path)
    assert counts(result) == {Collection.COLLECTED: 1, Collection.UNKNOWN_USER: 1}
    (problem,) = result.problems
    assert (problem.line, problem.user_id, problem.cost) == (2, stranger, 2)
    assert not result.is_exact
    assert str(stranger) in problem.detail
    assert len(result.files_done) == 1


async def test_an_unknown_user_whose_request_was_given_back_is_no_problem(
    outage: Outage, tmp_path: Path
) -> None:
    """There is nothing to charge."""
    outage.gate = Gate(outage.ledger, outage.store, POLICIES)
    stranger = replace(entry(2), user_id=uuid4())
    write(tmp_path, stranger, refund_of(stranger))
    result = await run(outage.gate, tmp_path)
    assert counts(result) == {Collection.CANCELLED: 1}
    assert result.is_exact


async def test_contradicting_changes_are_reported(outage: Outage, tmp_path: Path) -> None:
    """The rest of the import goes on."""
    served = entry(3)
    write(tmp_path, served)
    await run(outage.gate, tmp_path)
    one, other = refund_of(served, 1), replace(refund_of(served, 1), amount=2)
    write(tmp_path, one, other, entry(1))
    result = await run(outage.gate, tmp_path)
    assert [problem.line for problem in result.problems] == [2]
    assert counts(result) == {Collection.COLLECTED: 1}
    assert (result.shortfall, await outage.live()) == (1, 1), "it is given back at the end"


async def test_damaged_lines_are_reported_and_torn_ones_are_expected(
    outage: Outage, tmp_path: Path
) -> None:
    """A last line without an end was never served; one in the middle that is damaged was."""
    text = encode(entry(1)) + encode(entry(2)).replace(b'"cost":2', b'"cost":1') + encode(entry(2))
    (tmp_path / f"a{SUFFIX}").write_bytes(text + encode(entry(3))[:-9])
    result = await run(outage.gate, tmp_path)
    assert counts(result) == {Collection.COLLECTED: 2}
    assert [problem.line for problem in result.problems] == [2]
    assert result.torn_files == 1
    assert await outage.live() == 0


async def test_a_hold_that_may_be_settled_keeps_its_file(outage: Outage, tmp_path: Path) -> None:
    """The next import settles it, and charges nothing else twice."""
    hold = entry(2, expires_at_ms=outage.clock.ms + HOUR_MS)
    write(tmp_path, entry(1), hold)
    result = await run(outage.gate, tmp_path)
    assert counts(result) == {Collection.COLLECTED: 1, Collection.OPEN: 1}
    assert (len(result.files_left), result.files_done) == (1, [])
    outage.clock.ms += HOUR_MS
    result = await run(outage.gate, tmp_path)
    assert counts(result) == {Collection.KNOWN: 1, Collection.COLLECTED: 1}
    assert await outage.live() == 0


async def test_lines_written_during_the_import_are_imported(outage: Outage, tmp_path: Path) -> None:
    """The process goes on, gives back, and does not notice; at last its file is put away."""
    journal = FileJournal(tmp_path, bytes_max=BYTES_MAX)
    served = [replace(entry(number), cost=1) for number in range(1, 4)]
    journal.write(served[0])
    lines: list[JournalEntry | JournalChange] = [served[1], refund_of(served[0]), served[2]]
    later = iter(lines)

    class Meanwhile:
        """Has the process write a line whenever something is collected."""

        async def collect(
            self, entry: JournalEntry, changes: Sequence[JournalChange] = ()
        ) -> Collected:
            for line in later:
                journal.write(line)
                break
            return await outage.gate.collect(entry, changes)

        async def follow(self, change: JournalChange) -> Collected:
            journal.write(next(later))
            return await outage.gate.follow(change)

    with open_journals([tmp_path]) as files:
        result = await import_journals(Meanwhile(), files)
    assert counts(result) == {Collection.COLLECTED: 3}
    assert len(result.files_done) == 1
    assert await outage.live() == 1
    journal.write(refund_of(served[1]))
    journal.close()
    await run(outage.gate, tmp_path)
    assert await outage.live() == 2


async def test_a_server_that_does_not_answer_leaves_the_file(
    outage: Outage, tmp_path: Path
) -> None:
    """The error is raised, and the next import goes on."""
    write(tmp_path, *(replace(entry(number), cost=1) for number in range(1, 4)))

    async def down(_entry: JournalEntry) -> None:
        raise LedgerUnavailableError("Redis is down")

    real: Callable[..., object] = outage.ledger.collect
    outage.ledger.collect = down  # type: ignore[assignment]
    with pytest.raises(LedgerUnavailableError):
        await run(outage.gate, tmp_path)
    outage.ledger.collect = real  # type: ignore[assignment]
    assert counts(await run(outage.gate, tmp_path)) == {Collection.COLLECTED: 3}


async def test_progress_is_reported(outage: Outage, tmp_path: Path) -> None:
    """Batch by batch."""
    attempts = [CreditTransactionId(UUID(int=n + 1)) for n in range(2 * COUNT_AT_ONCE + 1)]
    write(tmp_path, *(replace(entry(1), attempt_id=attempt_id) for attempt_id in attempts))
    told: list[int] = []
    with open_journals([tmp_path]) as files:
        result = await import_journals(outage.gate, files, told.append)
    assert told == [COUNT_AT_ONCE, 2 * COUNT_AT_ONCE, 2 * COUNT_AT_ONCE + 1]
    assert (result.charged, result.shortfall) == (3, len(attempts) - 3)
