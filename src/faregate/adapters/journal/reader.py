"""Reads the journals of processes, and retires those that have been collected."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from faregate.adapters.journal.lines import decode
from faregate.adapters.journal.writer import SUFFIX, try_lock
from faregate.domain.errors import ConfigurationError, JournalError
from faregate.ports import JournalLine

#: The suffix of a retired file.
PUT_AWAY = ".imported"
#: How long a retired file stays, in seconds: a week, in which it can be imported again.
IMPORTED_LIFETIME_S = 7 * 86_400
#: More bytes than any line has, since description and metadata are bounded.
_LINE_BYTES_MAX = 65_536
_BLOCK_BYTES = 1 << 20


class FileJournalReader:
    """The port `JournalFile`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = os.fspath(path)
        #: Whether its last line is incomplete. The process that wrote it did not serve that
        #: request.
        self.is_torn = False

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        """Open the file.

        Raises:
            JournalError: The file cannot be read, or cannot be retired.
        """
        try:
            with self._path.open("rb") as file:
                yield file
        except OSError as error:
            raise JournalError(f"the journal cannot be imported: {error}") from error

    def size(self) -> int:
        """Return the size of its complete lines, in bytes."""
        with self._opened() as file:
            end = file.seek(0, os.SEEK_END)
            return end - _torn_length(file.fileno(), end)

    def lines(self, start: int, end: int) -> Iterator[JournalLine]:
        """Iterate over the lines between two places; see the port."""
        with self._opened() as file:
            number = 1 + sum(block.count(b"\n") for block in _blocks(file.fileno(), start))
            file.seek(start)
            while file.tell() < end and (text := file.readline()):
                yield decode(number, text)
                number += 1

    def retire(self, end: int) -> bool:
        """Retire the file if no complete line follows `end`; see the port.

        A process that still writes to it finds that it was renamed, and begins another file.
        """
        with self._opened() as file:
            if not try_lock(file.fileno()):
                return False
            length = file.seek(0, os.SEEK_END)
            torn = _torn_length(file.fileno(), length)
            if length - torn > end:
                return False
            self.is_torn = torn > 0
            os.utime(file.fileno())
            self._path.rename(self._path.with_name(self._path.name + PUT_AWAY))
            return True


def _torn_length(descriptor: int, length: int) -> int:
    """Return the number of bytes after the last complete line."""
    tail = os.pread(descriptor, _LINE_BYTES_MAX, max(0, length - _LINE_BYTES_MAX))
    return len(tail) - (tail.rfind(b"\n") + 1)


def _blocks(descriptor: int, end: int) -> Iterator[bytes]:
    place = 0
    while place < end and (block := os.pread(descriptor, min(_BLOCK_BYTES, end - place), place)):
        yield block
        place += len(block)


@contextmanager
def open_journals(paths: Sequence[Path]) -> Iterator[list[FileJournalReader]]:
    """Find the journals at paths (files and folders), and lock them for one import.

    Files in the same folders that were retired long ago are deleted, since they name users.

    Raises:
        ConfigurationError: There is nothing at a path, or no journal.
        JournalError: Another process imports them.
    """
    found = list(dict.fromkeys(path for given in paths for path in _journals_at(given)))
    folders = {path.resolve() if path.is_dir() else path.parent.resolve() for path in paths}
    with ExitStack() as locks:
        for folder in sorted(folders):
            locks.enter_context(_locked(folder))
            _delete_old(folder)
        # The former holder of the lock may have retired some of them.
        yield [FileJournalReader(path) for path in found if path.exists()]


def find_journals(paths: Sequence[Path]) -> list[FileJournalReader]:
    """Find the journals at paths without locking them; raises as `open_journals` does."""
    found = dict.fromkeys(path for given in paths for path in _journals_at(given))
    return [FileJournalReader(path) for path in found]


def _journals_at(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(path.glob(f"*{SUFFIX}"))
    if not path.is_file():
        raise ConfigurationError(f"there is no journal at {path}")
    if path.suffix != SUFFIX:
        raise ConfigurationError(
            f"{path} is no journal: rename a retired one to *{SUFFIX} to import it again"
        )
    return [path]


def _delete_old(folder: Path) -> None:
    for path in folder.glob(f"*{SUFFIX}{PUT_AWAY}"):
        if path.stat().st_mtime < time.time() - IMPORTED_LIFETIME_S:
            path.unlink()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not try_lock(descriptor):
            raise JournalError(f"the journals in {folder} are being imported by another process")
        yield
    finally:
        os.close(descriptor)
