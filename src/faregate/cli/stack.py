"""The servers, APIs and worker of replay and demo, each in a process of its own.

While a `Stack` is open, a thread watches it. It restarts embedded servers and a worker that died.
The death of an API ends the run, since the outcomes of its requests are unknown.
"""

import asyncio
import signal
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self, TypeVar

from faregate.adapters.postgres.migrations import Migrator
from faregate.bootstrap import open_audit, open_stream
from faregate.cli.child import Child, Program
from faregate.cli.extras import package
from faregate.cli.servers import EmbeddedServers
from faregate.cli.settings import as_environment, development_settings
from faregate.cli.sockets import LOOPBACK, listen
from faregate.config import Settings
from faregate.domain.errors import (
    ConfigurationError,
    EmbeddedServerError,
    FaregateError,
    InvalidArgumentError,
)

WATCH_INTERVAL_S = 0.2
#: A worker that dies more often has another cause than the faults that it must survive.
WORKER_RESTARTS_MAX = 20
#: The timeout of a stop, in seconds: an API gives up voids after 5 s, and a worker ends its batch.
API_STOP_S_MAX = 10.0
WORKER_STOP_S_MAX = 10.0
#: The thread may be restarting a server.
WATCH_STOP_S_MAX = 90.0
#: The decision timeout, in milliseconds. Longer than for real users, since on a busy machine each
#: void adds rows, which blurs the counts.
DECISION_TIMEOUT_MS = 2_000

PrintLine = Callable[[str], None]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class StackOptions:
    """The options of a stack."""

    #: The starting credits of a new user.
    starting_credits: int
    #: Whether the API provisions users.
    provision_users: bool
    #: The refunded statuses, as the program of the API takes them.
    refund_status: str
    #: The URLs of existing servers: both, or neither for embedded ones.
    redis_url: str | None = field(default=None, repr=False)
    postgres_url: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """An API that was started."""

    child: Child
    #: The host and port of the API.
    address: tuple[str, int]


class Stack:
    """Servers, API and worker on a fresh ledger, from `with` to the end of its block."""

    def __init__(self, options: StackOptions, print_line: PrintLine) -> None:
        """Configure the stack; `print_line` prints process ids and deaths.

        Raises:
            InvalidArgumentError: One URL is given without the other.
        """
        if bool(options.redis_url) != bool(options.postgres_url):
            raise InvalidArgumentError("give the URLs of both servers, or of none")
        self._options = options
        #: Prints one line.
        self.print_line = print_line
        self._opened = ExitStack()
        self._servers: EmbeddedServers | None = None
        self._stopping = threading.Event()
        self._failure: FaregateError | None = None
        #: The restarts of the worker.
        self.worker_restarts = 0
        self.settings: Settings
        self.api: Api
        self._worker: Child
        self._logs: Path

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            self._open(opened)
            self._opened = opened.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._opened.close()

    def check(self) -> None:
        """Raise an error if the run cannot go on.

        Raises:
            FaregateError: The API ended, or a process died that cannot be restarted.
        """
        if self._failure is not None:
            raise self._failure

    def worker_log(self) -> str:
        """Return the end of the log of the workers."""
        return self._worker.log_tail()

    async def while_healthy(self, work: Coroutine[None, None, T]) -> T:
        """Run a coroutine, and cancel it as soon as `check` raises."""
        task = asyncio.ensure_future(work)
        try:
            while not (await asyncio.wait({task}, timeout=WATCH_INTERVAL_S))[0]:
                self.check()
        finally:
            task.cancel()
            await asyncio.wait({task})
        return task.result()

    def _open(self, opened: ExitStack) -> None:
        logs = opened.enter_context(tempfile.TemporaryDirectory(prefix="faregate-logs-"))
        self._logs = Path(logs)
        self.settings = self._settings(opened)
        _create_ledger(self.settings)
        self._worker = self._start_worker()
        opened.callback(lambda: self._worker.stop(WORKER_STOP_S_MAX))
        self.api = self._start_api("api")
        opened.callback(self.api.child.stop, API_STOP_S_MAX)
        watch = threading.Thread(target=self._watch, name="stack", daemon=True)
        watch.start()
        opened.callback(watch.join, WATCH_STOP_S_MAX)
        opened.callback(self._stopping.set)

    def _settings(self, opened: ExitStack) -> Settings:
        """Start the servers, unless URLs are given; return the settings."""
        fixed = fixed_settings(self._options)
        redis_url, postgres_url = self._options.redis_url, self._options.postgres_url
        if redis_url and postgres_url:
            return development_settings(**fixed, redis_url=redis_url, postgres_url=postgres_url)
        development_settings(**fixed)
        self._servers = opened.enter_context(EmbeddedServers())
        self._print_servers(("redis", "postgres"))
        return development_settings(
            **fixed,
            redis_url=self._servers.redis_url,
            queue_url="",
            postgres_url=self._servers.postgres_url,
        )

    def _print_servers(self, names: Sequence[str]) -> None:
        if self._servers is not None:
            for server in (self._servers.redis, self._servers.postgres):
                if server.name in names:
                    self.print_line(f"{server.name} pid {server.pid} url {server.url}")

    @contextmanager
    def short_lived_api(self) -> Iterator[Api]:
        """Run another API during the block; it is killed at the end at the latest."""
        api = self._start_api("short-lived api")
        try:
            yield api
        finally:
            api.child.kill()

    def _start_worker(self) -> Child:
        worker = Child(worker_program(self.settings, self._logs / "worker.log"))
        self.print_line(f"worker pid {worker.pid}")
        return worker

    def _start_api(self, name: str) -> Api:
        # The socket listens before the API runs: the port is known, and an early client waits.
        with listen(LOOPBACK, 0) as listening:
            number = listening.fileno()
            program = api_program(name, number, self._options, self.settings, self._logs)
            child = Child(program)
            host, port = listening.getsockname()
        self.print_line(f"{name} pid {child.pid} url http://{host}:{port}")
        return Api(child=child, address=(host, port))

    def _watch(self) -> None:
        while not self._stopping.wait(WATCH_INTERVAL_S):
            try:
                self._check_processes()
            except FaregateError as error:
                self._failure = error
                return
            except OSError as error:
                # There are no more processes or files; the owner stops what runs.
                self._failure = EmbeddedServerError(f"cannot look after the processes: {error}")
                return

    def _check_processes(self) -> None:
        died = self._servers.watch() if self._servers is not None else ()
        for name in died:
            self.print_line(f"{name} died and was started again")
        self._print_servers(died)
        if self.api.child.exit_status is not None:
            raise broken(self.api.child)
        if self._worker.exit_status is not None:
            if self.worker_restarts >= WORKER_RESTARTS_MAX:
                raise broken(self._worker)
            self.worker_restarts += 1
            self.print_line(f"worker pid {self._worker.pid} died and is started again")
            self._worker = self._start_worker()


def fixed_settings(options: StackOptions) -> dict[str, object]:
    """Return the settings that do not depend on the servers."""
    return {
        "starting_credits": options.starting_credits,
        "request_cost": 1,
        "provision_users": options.provision_users,
        "decision_timeout_ms": DECISION_TIMEOUT_MS,
    }


def worker_program(settings: Settings, log: Path) -> Program:
    """Return the program of a worker.

    Raises:
        ConfigurationError: RQ is not installed.
    """
    package("rq", "worker")
    return Program(
        name="worker",
        module="faregate_worker",
        environment=as_environment(settings),
        log=log,
    )


def api_program(
    name: str, socket_number: int, options: StackOptions, settings: Settings, logs: Path
) -> Program:
    """Return the program of an API that serves on an inherited socket."""
    return Program(
        name=name,
        module="faregate.cli.replay_api",
        arguments=(str(socket_number), options.refund_status),
        environment=as_environment(settings),
        log=logs / f"{name}.log",
        inherited=(socket_number,),
    )


def broken(child: Child) -> EmbeddedServerError:
    """Return the error for a program that has ended, with the end of its log."""
    how = "hangs" if child.exit_status is None else f"ended with status {child.exit_status}"
    tail = child.log_tail() or "(nothing)"
    return EmbeddedServerError(f"the {child.program.name} {how}; the end of its log:\n{tail}")


def _create_ledger(settings: Settings) -> None:
    """Migrate the database, and check that neither it nor Redis was used before.

    Raises:
        ConfigurationError: The ledger is in use, so its numbers would not be those of this run.
    """
    Migrator(settings.postgres_url).apply(
        shard_count=settings.shard_count, starting_credits=settings.starting_credits
    )
    with open_audit(settings) as audit, open_stream(settings) as stream:
        if audit.identity().installed or audit.users(None, 1) or set(stream.epochs()) != {None}:
            raise ConfigurationError(
                "the ledger has been used before: give an empty Redis and an empty database"
            )


@contextmanager
def stopping_on_signals() -> Iterator[None]:
    """End the block in order at the first SIGTERM, SIGINT or SIGHUP; ignore further ones."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

    def end(number: int, _frame: FrameType | None) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
