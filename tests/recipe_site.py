"""A recipe over a socket: its app in a process of its own, its ledger, and who should have paid."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from durable import database
from example_rig import EXAMPLES, Customer, ExampleLedger, program
from faregate import SyncGate, build_sync_gate
from faregate.bootstrap import open_sweeper
from faregate.cli.servers import Binaries, EmbeddedServers
from faregate.domain.hold import OpenHold
from servers import lone_ledger
from waiting import wait_for
from wire_client import Api, free_port

#: What a user begins with, unless it is said.
CREDITS = 100
_STARTING_CREDITS = 3


@dataclass(slots=True)
class RecipeSite:
    """The app of a recipe, and its ledger."""

    ledger: ExampleLedger
    gate: SyncGate
    folder: Path
    redis_pid: int
    log: Path
    #: What each user began with, and should have left in the end.
    left: dict[Customer, tuple[int, int]] = field(default_factory=dict)

    @contextmanager
    def serve(self, *words: str) -> Iterator[Api]:
        """Run a program of Python in the folder of the recipe; `PORT` is where it listens."""
        port, settings = free_port(), self.ledger.settings
        variables = {
            # For the programs of these tests, which import the app of the recipe.
            "PYTHONPATH": os.pathsep.join([str(self.folder), str(EXAMPLES.parent), *sys.path]),
            "FAREGATE_END_TIMEOUT_MS": "500",
        }
        command = [word.replace("PORT", str(port)) for word in words]
        with program(command, self.folder, settings, self.log, **variables) as process:
            api = Api(server="uvicorn", port=port, settings=settings, process=process)
            wait_for(lambda: api.listens() or process.poll() is not None, "the recipe answers")
            assert process.poll() is None, self.log.read_text("utf-8", errors="replace")
            yield api

    def sign_up(self, credits: int = CREDITS) -> Customer:
        """Make a user who has so many credits, at least those to start with."""
        customer = self.ledger.sign_up(credits - _STARTING_CREDITS)
        self.left[customer] = credits, credits
        return customer

    def credits(self, customer: Customer) -> int:
        """What a user has now."""
        balance = self.gate.balance(customer.user_id)
        assert balance is not None
        return balance.credits

    def holds(self, customer: Customer) -> list[OpenHold]:
        """What is held of a user."""
        with open_sweeper(self.ledger.settings) as sweeper:
            return sweeper.list_holds(customer.user_id, 2)

    def expect(self, customer: Customer, paid: int) -> None:
        """Wait until nothing of a user is held, and it has paid so much."""
        given, _ = self.left[customer]
        self.left[customer] = given, given - paid
        wait_for(
            lambda: not self.holds(customer) and self.credits(customer) == given - paid,
            f"{paid} credits are paid",
        )

    def charges(self, customer: Customer) -> list[int]:
        """The amounts of the charges and refunds of a user, in order."""
        return [amount for kind, amount in self.ledger.rows(customer) if kind != "add"]

    def check(self) -> None:
        """Rows and Redis agree on what each user has left, to the credit."""
        self.ledger.drain()
        with database(self.ledger.settings.postgres_url) as tables:
            for customer, (_, left) in self.left.items():
                amounts = [row["amount"] for row in tables.rows(customer.user_id)]
                assert _STARTING_CREDITS + sum(amounts) == left
        assert self.ledger.findings() == []


def site_fixture(name: str) -> Any:
    """Return the fixture of a file of tests: the ledger of a recipe, which is exact at the end."""

    @pytest.fixture(scope="module")
    def site(
        binaries: Binaries,
        servers: EmbeddedServers,
        template_database: str,
        tmp_path_factory: pytest.TempPathFactory,
    ) -> Iterator[RecipeSite]:
        log = tmp_path_factory.mktemp(name) / "log"
        with (
            lone_ledger(binaries, servers, template_database) as (redis, settings),
            build_sync_gate(settings) as gate,
        ):
            made = RecipeSite(ExampleLedger(settings), gate, EXAMPLES / name, redis.pid, log)
            yield made
            made.check()

    return site
