"""The directories of the servers and the account that Postgres runs as."""

import os
import pwd
import shutil
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from faregate.domain.errors import EmbeddedServerError

#: The path of a socket has at most 104 bytes on macOS and 108 on Linux, with its final zero.
SOCKET_PATH_BYTES_MAX = 100
_LONGEST_SOCKET_NAME = ".s.PGSQL.5432"
_PROBE_S_MAX = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class UnixAccount:
    """An account of the system, other than the owner's, that a server runs as."""

    uid: int
    gid: int
    name: str

    def can_write(self, directory: Path) -> bool:
        """Return whether the account can reach and write `directory`."""
        return self._finds('cd "$1" 2>/dev/null && test -w .', directory)

    def can_run(self, program: Path) -> bool:
        """Return whether the account can reach and run `program`."""
        return self._finds('test -x "$1"', program)

    def _finds(self, test: str, path: Path) -> bool:
        # Tested as that account, since modes do not show access lists and mounts.
        answer = subprocess.run(  # noqa: S603 - fixed commands
            ["/bin/sh", "-c", test, "sh", os.fspath(path)],
            user=self.uid,
            group=self.gid,
            extra_groups=[],
            cwd="/",
            check=False,
            timeout=_PROBE_S_MAX,
        )
        return answer.returncode == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """The directories of one pair of servers."""

    #: Holds `redis` and `postgres` (data, log and lock of each).
    base: Path
    #: Holds the sockets.
    run: Path
    #: Whether `base` is deleted at the end.
    temporary: bool
    #: The owner of `postgres` and `run`; None for the current user.
    account: UnixAccount | None

    @classmethod
    def prepare(cls, directory: Path | None) -> Self:
        """Make missing directories in `directory`, or in a new temporary one.

        Raises:
            EmbeddedServerError: If they cannot be made, or the account of Postgres cannot reach
                them.
        """
        temporary = directory is None
        try:
            base = _base(directory)
            account = _account(base / "postgres")
            run = _run_directory(base)
            places = cls(base=base, run=run, temporary=temporary, account=account)
        except OSError as error:
            raise EmbeddedServerError(f"the servers' directories: {error}") from error
        try:
            places._fill()
        except OSError as error:
            places.clear()
            raise EmbeddedServerError(f"the servers' directories: {error}") from error
        except EmbeddedServerError:
            places.clear()
            raise
        return places

    @property
    def removable(self) -> tuple[Path, ...]:
        """The temporary directories, inner ones first, to be removed once they are empty."""
        if self.temporary:
            return (self.run, self.base)
        # In a chosen directory `run` stays, since the next owner may already use it.
        return () if self.run.is_relative_to(self.base) else (self.run,)

    def clear(self) -> None:
        """Delete temporary data after the servers have ended."""
        if self.temporary:
            shutil.rmtree(self.base, ignore_errors=True)
        for directory in self.removable:
            with suppress(OSError):
                directory.rmdir()

    def _fill(self) -> None:
        postgres = self.base / "postgres"
        for directory in (postgres, self.base / "redis"):
            directory.mkdir(mode=0o700, exist_ok=True)
        self.run.chmod(0o700)
        if self.account is None:
            return
        for directory in (postgres, self.run):
            os.chown(directory, self.account.uid, self.account.gid)
            if not self.account.can_write(directory):
                raise EmbeddedServerError(
                    f"Postgres does not run as root but as {self.account.name}, and "
                    f"{self.account.name} cannot reach {directory}: choose a directory whose "
                    "parents everybody may pass, or none for a temporary one"
                )


def _base(directory: Path | None) -> Path:
    if directory is None:
        base = Path(tempfile.mkdtemp(prefix="faregate-", dir=_short_directory()))
    else:
        base = directory.expanduser().resolve()
        if base.is_dir():
            return base
        base.mkdir(parents=True)
    # Root's servers run as two accounts: both may pass, and only root may list.
    base.chmod(0o711 if os.geteuid() == 0 else 0o700)
    return base


def _short_directory() -> str:
    short = "/tmp"  # noqa: S108 - mkdtemp makes a private directory in it
    return short if os.access(short, os.W_OK | os.X_OK) else tempfile.gettempdir()


def _run_directory(base: Path) -> Path:
    run = base / "run"
    # For libpq a comma separates two hosts.
    if len(os.fsencode(run / _LONGEST_SOCKET_NAME)) <= SOCKET_PATH_BYTES_MAX and "," not in str(
        run
    ):
        run.mkdir(mode=0o700, exist_ok=True)
        return run
    short = Path(tempfile.mkdtemp(prefix="faregate-", dir=_short_directory()))
    if len(os.fsencode(short / _LONGEST_SOCKET_NAME)) > SOCKET_PATH_BYTES_MAX:
        short.rmdir()
        raise EmbeddedServerError(f"{short} is too long for a unix socket: set TMPDIR to a shorter")
    return short


def _account(postgres: Path) -> UnixAccount | None:
    if os.geteuid() != 0:
        return None
    with suppress(FileNotFoundError, KeyError):
        # An existing cluster keeps its owner.
        found = (postgres / "data").stat()
        if found.st_uid != 0:
            return UnixAccount(uid=found.st_uid, gid=found.st_gid, name=f"user {found.st_uid}")
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return UnixAccount(uid=entry.pw_uid, gid=entry.pw_gid, name=name)
    raise EmbeddedServerError("Postgres refuses to run as root, and there is no user `nobody`")
