"""An embedded Postgres."""

import os
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote, urlencode

from faregate.cli.servers.places import Places, UnixAccount
from faregate.cli.servers.process import SERVER_ENVIRONMENT, Launch
from faregate.cli.servers.server import Server
from faregate.domain.errors import EmbeddedServerError

SUPERUSER = "postgres"
PORT = 5432
INITDB_S_MAX = 120
_READY_LINE = 7
_INITDB_ERROR_CHARACTERS = 2_000


class EmbeddedPostgres(Server):
    """A Postgres whose superuser is `postgres`, on a unix socket, without a port."""

    name: ClassVar[str] = "postgres"
    #: The "fast" shutdown: sessions are ended, then everything is written.
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT

    def __init__(self, places: Places, *, programs: Path, durable: bool) -> None:
        """Prepare to run the Postgres in `programs`.

        Args:
            places: The directories, and the account to run as.
            programs: The directory that holds `initdb` and `postgres`.
            durable: False turns off syncing: for tests. Then the machine's crash, but not the
                server's, may lose data.
        """
        super().__init__(places, durable=durable)
        self._programs = programs
        self._account = places.account
        self.data = self.directory / "data"

    @property
    def url(self) -> str:
        """The URL of database `postgres`, as superuser."""
        return self.database_url("postgres")

    def database_url(self, database: str, *, user: str = SUPERUSER) -> str:
        """Make the URL of a database (libpq's form: the socket's directory is a parameter)."""
        parameters = {"host": os.fspath(self._places.run), "port": str(PORT), "user": user}
        query = urlencode(parameters, quote_via=quote, safe="")
        return f"postgresql:///{quote(database, safe='')}?{query}"

    def _prepare(self, lock: int) -> None:
        if self._account is not None:
            self._programs = _within_reach(self._programs, self._account, self.directory)
        if not (self.data / "PG_VERSION").is_file():
            self._initialise(lock)
        # With the lock no server of ours is left, so these files are stale, even if a process with
        # that id exists: a zombie, or an unrelated process. Postgres would mistake either for their
        # writer.
        if not _may_be_in_use(self.data):
            (self.data / "postmaster.pid").unlink(missing_ok=True)
            for suffix in ("", ".lock"):
                (self._places.run / f".s.PGSQL.{PORT}{suffix}").unlink(missing_ok=True)

    def _command(self) -> tuple[str, ...]:
        # Quoted, since commas and blanks separate directories.
        sockets = os.fspath(self._places.run).replace('"', '""')
        settings = {"listen_addresses": "", "unix_socket_directories": f'"{sockets}"', "port": PORT}
        if not self._durable:
            # Commits are still written at once, so that killing the server loses none.
            settings |= {"fsync": "off", "full_page_writes": "off"}
        flags = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return (os.fspath(self._programs / "postgres"), "-D", os.fspath(self.data), *flags)

    def _launch(self) -> Launch:
        return replace(super()._launch(), account=self._account)

    def _ready(self, pid: int) -> bool:
        # The line that pg_ctl reads, too: connections are accepted.
        lines = _lines(self.data / "postmaster.pid")
        if len(lines) <= _READY_LINE or lines[0].strip() != str(pid):
            return False
        return lines[_READY_LINE].strip() == "ready"

    def _initialise(self, lock: int) -> None:
        """Make a new cluster beside its final place, so that a partial one is never used."""
        partial = self.directory / "data.partial"
        shutil.rmtree(partial, ignore_errors=True)
        command = [os.fspath(self._programs / "initdb"), "-D", os.fspath(partial)]
        command += ["-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-instructions"]
        if not self._durable:
            command.append("--no-sync")
        try:
            made = subprocess.run(  # noqa: S603 - our own command
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=SERVER_ENVIRONMENT,
                pass_fds=(lock,),
                check=False,
                timeout=INITDB_S_MAX,
                user=self._account.uid if self._account else None,
                group=self._account.gid if self._account else None,
                extra_groups=[] if self._account else None,
            )
        except subprocess.TimeoutExpired as error:
            raise EmbeddedServerError(f"initdb is not done after {INITDB_S_MAX} s") from error
        if made.returncode != 0:
            output = made.stdout.decode(errors="replace")[-_INITDB_ERROR_CHARACTERS:]
            raise EmbeddedServerError(f"initdb failed in {self.directory}:\n{output}")
        partial.rename(self.data)


def _within_reach(programs: Path, account: UnixAccount, directory: Path) -> Path:
    """Return programs that `account` may run: these, or a copy of their installation."""
    if account.can_run(programs / "postgres"):
        return programs
    copy = directory / "installation"
    shutil.rmtree(copy, ignore_errors=True)
    # The programs find their files relative to themselves, so a copy works anywhere: of the
    # installation in its package, and of the libraries that a Linux wheel keeps beside that.
    installation = programs.parent
    package = installation.parent
    libraries = package.with_name(f"{package.name}.libs")
    for tree in (installation, libraries):
        if tree.is_dir():
            shutil.copytree(
                tree,
                copy / tree.relative_to(package.parent),
                symlinks=True,
                ignore=shutil.ignore_patterns("include"),
            )
    return copy / programs.relative_to(package.parent)


def _may_be_in_use(data: Path) -> bool:
    """Return whether another Postgres (started by hand) may run on `data`."""
    lines = _lines(data / "postmaster.pid")
    if not lines or not lines[0].strip().isdigit():
        return False
    if not Path("/proc/self").exists():
        # macOS reaps orphans, so the check of Postgres itself is enough there.
        return True
    try:
        # A Postgres works in its data directory. The link of a zombie cannot be read.
        return Path(f"/proc/{lines[0].strip()}/cwd").resolve(strict=True) == data
    except OSError:
        return False


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []
