"""A recipe over a socket: its app in a process of its own, its ledger, and who should have paid."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import psycopg

from faregate import Settings, SyncGate, build_sync_gate
from faregate.bootstrap import open_api_key_admin, open_audit, open_stream, open_sweeper
from faregate.cli.servers import Binaries, EmbeddedServers
from faregate.domain.api_key import NewApiKey
from faregate.domain.hold import OpenHold
from faregate.ops.reconcile import reconcile
from servers import lone_ledger
from waiting import WAIT_S_MAX, wait_for
from wire_client import Api, free_port
from worker_process import System

EXAMPLES = Path(__file__).parents[1] / "examples"
#: What a user begins with, unless it is said.
CREDITS = 100


@dataclass(slots=True)
class RecipeSite:
    """The ledger of a recipe."""

    example: Path
    settings: Settings
    redis_pid: int
    gate: SyncGate
    system: System
    #: What each user should have paid in the end.
    paid: dict[UUID, int] = field(default_factory=dict)
    #: What each user began with.
    given: dict[UUID, int] = field(default_factory=dict)

    @contextmanager
    def serve(self, *words: str) -> Iterator[Api]:
        """Run a program of Python in the folder of the example; `PORT` is where it listens."""
        port = free_port()
        variables = {
            "PYTHONPATH": os.pathsep.join([str(self.example), str(EXAMPLES.parent), *sys.path]),
            "FAREGATE_REDIS_URL": self.settings.redis_url,
            "FAREGATE_POSTGRES_URL": self.settings.postgres_url,
            "FAREGATE_END_TIMEOUT_MS": "500",
        }
        command = [sys.executable, *(word.replace("PORT", str(port)) for word in words)]
        process = subprocess.Popen(command, cwd=self.example, env=os.environ | variables)
        api = Api(server="uvicorn", port=port, settings=self.settings, process=process)
        try:
            wait_for(lambda: api.listens() or process.poll() is not None, "the example answers")
            yield api
        finally:
            process.terminate()
            process.wait(WAIT_S_MAX)

    def sign_up(self, credits: int = CREDITS) -> UUID:
        """Make a user who has so many credits, at least those to start with."""
        user = uuid4()
        assert self.gate.charge(user, cost=0).allowed
        if more := credits - self.settings.starting_credits:
            assert self.gate.grant(user, more).allowed
        self.given[user], self.paid[user] = credits, 0
        return user

    def api_key(self, user: UUID) -> str:
        """Make an API key of a user."""
        new = NewApiKey.mint(user, "of a client", now=datetime.now(UTC))
        with open_api_key_admin(self.settings) as admin:
            admin.create(new)
        return new.text

    def credits(self, user: UUID) -> int:
        """What a user has left."""
        balance = self.gate.balance(user)
        assert balance is not None
        return balance.credits

    def holds(self, user: UUID) -> list[OpenHold]:
        """What is held of a user."""
        with open_sweeper(self.settings) as sweeper:
            return sweeper.list_holds(user, 2)

    def expect(self, user: UUID, paid: int) -> None:
        """Wait until nothing of a user is held, and it has paid so much."""
        self.paid[user] = paid
        wait_for(
            lambda: not self.holds(user) and self.credits(user) == self.given[user] - paid,
            f"{paid} credits are paid",
        )

    def rows(self) -> dict[UUID, list[int]]:
        """The amounts of all charges and refunds of each user, in order."""
        self.system.drain()
        query = (
            "select user_id, amount from public.credit_transactions"
            " where type in ('deduct', 'refund') order by user_id, sequence"
        )
        found: dict[UUID, list[int]] = {user: [] for user in self.paid}
        with psycopg.connect(self.settings.postgres_url) as connection:
            for user, amount in connection.execute(query):
                found[user].append(int(amount))
        return found

    def check(self) -> None:
        """Rows and Redis agree on what each user has paid, to the credit."""
        assert {user: -sum(amounts) for user, amounts in self.rows().items()} == self.paid
        with open_stream(self.settings) as stream, open_audit(self.settings) as audit:
            assert reconcile(stream, stream, audit).is_exact


@contextmanager
def recipe_site(
    name: str, binaries: Binaries, servers: EmbeddedServers, template: str, log: Path
) -> Iterator[RecipeSite]:
    """Make the ledger of a recipe; at the end it is exact."""
    with lone_ledger(binaries, servers, template) as (redis, settings):
        url = settings.postgres_url
        system = System(redis_url=settings.redis_url, database_url=url, log=log)
        with build_sync_gate(system.settings) as gate:
            site = RecipeSite(EXAMPLES / name, settings, redis.pid, gate, system)
            yield site
            site.check()
