"""Writes the journal of one process to a file of its own, made with the first line.

A line is handed to the kernel before its request is served, so it outlives the process, even a
killed one. A thread syncs it to the disk within `SYNC_S` seconds. A power failure loses the lines
of that time: their requests were served for free.

The import retires a file after it has read all of it, even while its process lives. So each line is
written under a lock. If the file was retired meanwhile, the line goes to a new file.
"""

import errno
import fcntl
import logging
import os
import secrets
import threading
import time
from asyncio import to_thread
from contextlib import suppress
from pathlib import Path

from faregate.adapters.journal.lines import encode
from faregate.domain.errors import ConfigurationError, JournalError
from faregate.domain.health import JournalState
from faregate.domain.journal import JournalChange, JournalEntry

SUFFIX = ".journal"
#: The longest time until a line is on the disk, in seconds.
SYNC_S = 1.0
#: More bytes than a change has. Each entry reserves room for one change.
_CHANGE_BYTES_MAX = 256
_MODE = 0o600
_FOLDER_MODE = 0o700

_log = logging.getLogger(__name__)


class FileJournal:
    """The port `Journal` in a folder. Each process has files of its own there."""

    def __init__(self, folder: Path, *, bytes_max: int) -> None:
        """Make the folder, if it is not there.

        Args:
            folder: The folder of the files.
            bytes_max: How many bytes the files in the folder may have, those of other processes
                included.

        Raises:
            ConfigurationError: The folder is not writable.
        """
        try:
            folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"no journal can be kept in {folder}: {error}") from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise ConfigurationError(f"no journal can be kept in {folder}: it cannot be written")
        self._folder = folder
        self._bytes_max = bytes_max
        self._file: _File | None = None
        self._requests = 0
        self._is_closed = False

    @property
    def state(self) -> JournalState:
        """The size of the journal, and the number of its requests."""
        return JournalState(
            requests=self._requests,
            bytes=self._file.size if self._file else 0,
            bytes_max=self._bytes_max,
        )

    def write(self, line: JournalEntry | JournalChange) -> None:
        """Append a line; see the port."""
        if self._is_closed:
            raise JournalError("the journal is closed")
        text, is_request = encode(line), isinstance(line, JournalEntry)
        try:
            if self._file is not None and self._file.append(text, is_request=is_request):
                self._requests += is_request
                return
            if self._file is not None:
                self._file.leave()
            self._file = _File(self._folder, self._bytes_max - self._used())
            self._file.append(text, is_request=is_request)
        except OSError as error:
            raise JournalError(f"no journal can be kept in {self._folder}: {error}") from error
        self._requests += is_request

    def _used(self) -> int:
        """Return the size of all journals in the folder that are not imported yet, in bytes."""
        used = 0
        for path in self._folder.glob(f"*{SUFFIX}"):
            with suppress(FileNotFoundError):
                used += path.stat().st_size
        return used

    def close(self) -> None:
        """Sync all lines to the disk."""
        self._is_closed = True
        if self._file is not None:
            self._file.close()
            self._file = None

    async def aclose(self) -> None:
        """Close in a thread; see the port."""
        await to_thread(self.close)


class _File:
    """A file that one process appends to."""

    def __init__(self, folder: Path, room: int) -> None:
        self.size = 0
        self._is_torn = False
        self._room = room
        self._reserved = 0
        self._pid = os.getpid()
        name = f"{time.time_ns() // 1_000_000}-{self._pid}-{secrets.token_hex(4)}{SUFFIX}"
        self._path = folder / name
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, _MODE)
        self._sync = _Sync(self._descriptor, folder)

    def append(self, text: bytes, *, is_request: bool) -> bool:
        """Append a line; return False if the file was retired and the line must go to a new one.

        Raises:
            JournalError: There is no room for it.
            OSError: It cannot be written.
        """
        # The import may hold the lock while it reads the end. A request does not wait for that.
        if self._is_torn or self._pid != os.getpid() or not try_lock(self._descriptor):
            return False
        try:
            if not self._is_in_place():
                return False
            self._check_room(len(text), _CHANGE_BYTES_MAX if is_request else 0)
            self._write(text)
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self._reserved += (
            _CHANGE_BYTES_MAX if is_request else -min(_CHANGE_BYTES_MAX, self._reserved)
        )
        self._sync.ask()
        return True

    def _is_in_place(self) -> bool:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return False
        return os.path.samestat(found, os.fstat(self._descriptor))

    def _check_room(self, length: int, reserve: int) -> None:
        reserved = self._reserved + reserve if reserve else 0
        if self.size + length + reserved > self._room:
            raise JournalError("the journal is full: import it")

    def _write(self, text: bytes) -> None:
        written = 0
        try:
            written = os.write(self._descriptor, text)
        finally:
            if written < len(text):
                # A partly written line would damage the next one.
                self._is_torn = True
                os.ftruncate(self._descriptor, self.size)
                self._is_torn = False
        if written < len(text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.size += len(text)

    def leave(self) -> None:
        """Close the file in the background, after its lines are on the disk."""
        self._sync.end()
        os.close(self._descriptor)

    def close(self) -> None:
        """Sync the file to disk, and close it."""
        self.leave()
        self._sync.join()


class _Sync:
    """Syncs a file to the disk in a thread of its own, at most once in `SYNC_S`."""

    def __init__(self, descriptor: int, folder: Path) -> None:
        self._descriptor = os.dup(descriptor)
        self._folder = folder
        self._asked = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def ask(self) -> None:
        """Ask for a sync soon."""
        self._asked.set()

    def end(self) -> None:
        """Ask for the last sync, at once."""
        self._closing.set()
        self._asked.set()

    def join(self) -> None:
        """Wait until the last sync has ended."""
        self._thread.join()

    def _run(self) -> None:
        try:
            self._sync_folder()
            while not self._closing.is_set():
                self._asked.wait()
                self._asked.clear()
                os.fsync(self._descriptor)
                self._closing.wait(SYNC_S)
            os.fsync(self._descriptor)
        except OSError:
            _log.exception("journal fsync failed: folder=%s", self._folder)
        finally:
            os.close(self._descriptor)

    def _sync_folder(self) -> None:
        """Sync the folder, so that the name of the file is on the disk, too."""
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def try_lock(descriptor: int) -> bool:
    """Lock a file or a folder; return False if another process holds its lock."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
