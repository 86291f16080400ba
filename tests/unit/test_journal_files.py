"""The journal in files: what was written is there, whatever happens in between."""

import errno
import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from faregate.adapters.journal.reader import find_journals, open_journals
from faregate.adapters.journal.writer import FileJournal
from faregate.domain.errors import ConfigurationError, JournalError
from faregate.domain.journal import JournalEntry
from journals import contents, entry, read, refund_of
from waiting import WAIT_S_MAX

PROCESS = Path(__file__).parents[1] / "journal_process.py"
BYTES_MAX = 4_096


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[FileJournal]:
    made = FileJournal(tmp_path, bytes_max=BYTES_MAX)
    yield made
    made.close()


def costs(folder: Path) -> list[int]:
    """Return what the entries cost that can be read, by which the tests tell them apart."""
    return sorted(line.cost for line in read(folder) if isinstance(line, JournalEntry))


def test_each_process_has_a_file_of_its_own(tmp_path: Path) -> None:
    """Made at the first line, and readable by nobody else."""
    folder = tmp_path / "made" / "here"
    journals = [FileJournal(folder, bytes_max=10_000) for _ in range(2)]
    assert list(folder.iterdir()) == []
    for number, journal in enumerate(journals, start=1):
        journal.write(entry(number))
        journal.write(refund_of(entry(number)))
    paths = list(folder.iterdir())
    assert len(paths) == 2
    assert {path.stat().st_mode & 0o777 for path in paths} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert len(read(folder)) == 4


def is_written(journal: FileJournal, one: JournalEntry) -> bool:
    """Write an entry down, if there is room for it."""
    try:
        journal.write(one)
    except JournalError:
        return False
    return True


def test_a_full_journal_refuses_requests_and_takes_their_refunds(
    journal: FileJournal, tmp_path: Path
) -> None:
    """For each request that was written down there is room to cancel it."""
    served = []
    for one in map(entry, range(1, 100)):
        if not is_written(journal, one):
            break
        served.append(one)
    assert 3 < len(served) < 15
    with pytest.raises(JournalError, match="full"):
        journal.write(entry(1))
    for one in served:
        journal.write(refund_of(one))
    state = journal.state
    assert state.requests == len(served)
    assert state.bytes == sum(path.stat().st_size for path in tmp_path.iterdir()) <= BYTES_MAX
    another = FileJournal(tmp_path, bytes_max=BYTES_MAX)
    with pytest.raises(JournalError, match="full"):
        another.write(entry(1))


def test_a_file_that_was_put_away_makes_room(journal: FileJournal, tmp_path: Path) -> None:
    """The process goes on in a new one, without a restart."""
    journal.write(entry(1))
    (reader,) = find_journals([tmp_path])
    assert reader.retire(reader.size())
    journal.write(entry(2))
    assert read(tmp_path) == [entry(2)]
    assert len(list(tmp_path.glob("*.imported"))) == 1


def test_a_file_that_has_grown_is_not_put_away(journal: FileJournal, tmp_path: Path) -> None:
    """What was written since it was read is read first."""
    journal.write(entry(1))
    (reader,) = find_journals([tmp_path])
    end = reader.size()
    journal.write(entry(2))
    assert not reader.retire(end)
    assert [line.number for line in reader.lines(end, reader.size())] == [2]
    assert contents(reader, end) == [entry(2)]
    assert reader.retire(reader.size())


def test_no_request_waits_for_an_import(journal: FileJournal, tmp_path: Path) -> None:
    """While the end of a file is looked at, its process writes to another one."""
    journal.write(entry(1))
    (path,) = tmp_path.iterdir()
    with path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        journal.write(entry(2))
    assert costs(tmp_path) == [1, 2]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("written", [0, 10], ids=["nothing", "a part"])
def test_a_disk_that_is_full_leaves_no_half_line(
    journal: FileJournal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    """The request is refused, and the next line begins a line."""
    journal.write(entry(1))
    real = os.write

    def full(descriptor: int, text: bytes) -> int:
        if not written:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, text[:written])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(JournalError, match="No space left"):
            journal.write(entry(2))
    journal.write(entry(3))
    assert costs(tmp_path) == [1, 3]
    assert journal.state.requests == 2


def test_a_half_line_that_cannot_be_removed_ends_its_file(
    journal: FileJournal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes next is in another file, so that it can be read."""
    journal.write(entry(1))

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    real = os.write
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda descriptor, text: real(descriptor, text[:9]))
        patched.setattr(os, "ftruncate", broken)
        with pytest.raises(JournalError):
            journal.write(entry(2))
    journal.write(entry(3))
    assert costs(tmp_path) == [1, 3]
    readers = find_journals([tmp_path])
    assert all(reader.retire(reader.size()) for reader in readers)
    assert sorted(reader.is_torn for reader in readers) == [False, True]


def test_written_lines_go_to_the_disk(
    journal: FileJournal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Soon, in another thread, and again at the end."""
    synced: list[tuple[str, int]] = []
    asked = threading.Event()

    def note(descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        synced.append((threading.current_thread().name, size))
        if Path(f"/proc/self/fd/{descriptor}").readlink().suffix == ".journal":
            asked.set()

    monkeypatch.setattr(os, "fsync", note)
    journal.write(entry(1))
    assert asked.wait(WAIT_S_MAX)
    journal.write(entry(2))
    journal.close()
    assert {name for name, _ in synced} == {"journal"}
    (path,) = tmp_path.iterdir()
    assert synced[-1][1] == path.stat().st_size


@contextmanager
def process(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """Run a process that writes a journal; leaving the block kills it."""
    started = subprocess.Popen(
        [sys.executable, str(PROCESS), *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate(timeout=WAIT_S_MAX)


def served_by(serving: "subprocess.Popen[str]", count: int) -> Sequence[str]:
    """Wait for the ids of requests that a process says to have served."""
    assert serving.stdout is not None
    return [serving.stdout.readline().strip() for _ in range(count)]


def test_served_requests_outlive_the_process(tmp_path: Path) -> None:
    """SIGKILL at any moment: each request of which the process could tell is in its file."""
    with process(str(tmp_path)) as serving:
        served = served_by(serving, 500)
    written = [line for line in read(tmp_path) if isinstance(line, JournalEntry)]
    assert {str(one.attempt_id) for one in written} >= set(served)


def test_a_process_that_forks_does_not_share_its_file(tmp_path: Path) -> None:
    """Parent and child go on, each in its own."""
    with process(str(tmp_path), "fork") as forking:
        assert forking.wait(WAIT_S_MAX) == 0
    assert len(list(tmp_path.iterdir())) == 2
    assert len([line for line in read(tmp_path) if isinstance(line, JournalEntry)]) == 3


def test_one_import_at_a_time(tmp_path: Path) -> None:
    """A second one is told so, and is let in after the first, however that ended."""
    FileJournal(tmp_path, bytes_max=BYTES_MAX).write(entry())
    with open_journals([tmp_path]) as files:
        assert len(files) == 1
        with pytest.raises(JournalError, match="another process"), open_journals([tmp_path]):
            pass
        assert files[0].retire(files[0].size())
    with open_journals([tmp_path]) as files:
        assert files == []


def test_other_files_are_not_mistaken_for_journals(journal: FileJournal, tmp_path: Path) -> None:
    """A file that was put away is imported again only if somebody names it as a journal."""
    FileJournal(tmp_path, bytes_max=BYTES_MAX).write(entry())
    (reader,) = find_journals([tmp_path])
    assert reader.retire(reader.size())
    (path,) = tmp_path.iterdir()
    for wrong in (path, tmp_path / "none"):
        with pytest.raises(ConfigurationError):
            find_journals([wrong])


def test_a_folder_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    """Not at the first outage."""
    file = tmp_path / "file"
    file.touch()
    for place in (file, file / "below"):
        with pytest.raises(ConfigurationError, match="no journal can be kept"):
            FileJournal(place, bytes_max=1)


def test_a_journal_that_is_closed_takes_no_more(tmp_path: Path) -> None:
    """It would begin a file that nobody puts on the disk."""
    journal = FileJournal(tmp_path, bytes_max=BYTES_MAX)
    journal.close()
    with pytest.raises(JournalError):
        journal.write(entry(1))
    assert list(tmp_path.iterdir()) == []
