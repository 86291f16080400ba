"""Serves an example as its README says, over a socket, and looks at its ledger at the end."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from durable import database
from faregate import Settings, build_sync_gate
from faregate.bootstrap import open_api_key_admin, open_archive, open_audit, open_stream
from faregate.domain.api_key import NewApiKey
from faregate.domain.finding import Finding
from faregate.ops.reconcile import reconcile, verify
from faregate_worker.drain import DrainLimits, drain
from processes import end
from waiting import WAIT_S_MAX, wait_for
from wire_client import Api, free_port

EXAMPLES = Path(__file__).parents[1] / "examples"
_LIMITS = DrainLimits(batch_size_max=1_000, seconds_max=WAIT_S_MAX)
#: By which option each server is told where to listen.
_BINDS = {
    "uvicorn": "--port {port}",
    "hypercorn": "--bind 127.0.0.1:{port}",
    "gunicorn": "--bind 127.0.0.1:{port} --no-control-socket",
}


@dataclass(frozen=True, slots=True)
class Customer:
    """A user with credits and an API key."""

    user_id: UUID
    key: str


class ExampleLedger:
    """The ledger of an example."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def sign_up(self, granted: int = 0) -> Customer:
        """Make a user with the three starting credits, these, and an API key."""
        with database(self.settings.postgres_url) as tables:
            user_id = tables.user().user_id
        new = NewApiKey.mint(user_id, "of an example", now=datetime.now(UTC))
        with open_api_key_admin(self.settings) as admin:
            admin.create(new)
        if granted:
            with build_sync_gate(self.settings) as gate:
                gate.grant(user_id, granted)
        return Customer(user_id, new.text)

    def drain(self) -> None:
        """Make rows of all records."""
        with open_stream(self.settings) as stream, open_archive(self.settings) as archive:
            for shard in range(stream.shard_count):
                drain(stream, archive, shard, limits=_LIMITS)

    def rows(self, customer: Customer) -> list[tuple[str, int]]:
        """Type and amount of each row of a user in order, but for the starting one."""
        self.drain()
        with database(self.settings.postgres_url) as tables:
            return [(row["type"], row["amount"]) for row in tables.rows(customer.user_id)]

    def findings(self) -> list[Finding]:
        """What is not exact."""
        with open_stream(self.settings) as stream, open_audit(self.settings) as audit:
            return [*reconcile(stream, stream, audit).findings, *verify(stream, stream, audit)]

    def is_use_noted(self, customer: Customer) -> bool:
        """Whether the last use of a key is written, as by a process that ends in order."""
        with open_api_key_admin(self.settings) as admin:
            (key,) = admin.keys(customer.user_id, None, 2)
        return key.last_used_at is not None


@contextmanager
def program(
    words: Sequence[str], folder: Path, settings: Settings, log: Path, **variables: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Python program of an example in its folder, with `words` after `python`; end it."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "FAREGATE_REDIS_URL": settings.redis_url,
        "FAREGATE_POSTGRES_URL": settings.postgres_url,
        **variables,
    }
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, *words], cwd=folder, env=environment, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        end(process)


@contextmanager
def served(
    command: str, folder: Path, settings: Settings, log: Path, **variables: str
) -> Iterator[Api]:
    """Serve an example by a command such as `uvicorn app:app`, until it answers `/healthz`."""
    port = free_port()
    server, *rest = shlex.split(command)
    words = ["-m", server, *rest, *_BINDS[server].format(port=port).split()]
    with program(words, folder, settings, log, **variables) as process:
        api = Api(server=server, port=port, settings=settings, process=process)
        wait_for(lambda: api.ready() or process.poll() is not None, f"{command} answers")
        assert process.poll() is None, log.read_text("utf-8", errors="replace")
        yield api
