"""The example of LLM streaming over a socket: who pays how much, however a stream ends."""

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest

from faregate import Settings, SyncGate, build_sync_gate
from faregate.bootstrap import open_audit, open_stream, open_sweeper
from faregate.cli.servers import Binaries, EmbeddedServers
from faregate.domain.hold import OpenHold
from faregate.ops.reconcile import reconcile
from processes import stopped
from servers import lone_ledger
from waiting import WAIT_S_MAX, wait_for
from wire_client import Api, free_port
from worker_process import System

PROGRAM = Path(__file__).parents[1] / "llm_app.py"
EXAMPLE = Path(__file__).parents[2] / "examples/llm_streaming"
CREDITS = 100
#: Long enough that the hold of a process that is busy is extended; short enough to be waited for.
SHORT_TTL_MS = 3_000


class Stream:
    """A request, and the events of its answer as they come."""

    def __init__(self, port: int, user: UUID, tier: str, prompt: str, max_tokens: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S_MAX)
        body = json.dumps({"prompt": prompt, "max_tokens": max_tokens})
        self._connection.request(
            "POST", "/v1/completions", body, {"x-user": str(user), "x-tier": tier}
        )
        self._response = self._connection.getresponse()
        self.status = self._response.status

    def event(self) -> str:
        """Wait for the next event; return its data, or nothing at the end."""
        line = self._response.readline().decode()
        assert self._response.readline() in {b"\n", b""}
        return line.removeprefix("data: ").strip()

    def rest(self) -> list[str]:
        """Wait for the end; return the data of the events up to it."""
        text = self._response.read().decode().strip()
        return [event.removeprefix("data: ") for event in text.split("\n\n")]

    def text(self) -> str:
        """The next token."""
        return str(json.loads(self.event())["choices"][0]["text"])

    def close(self) -> None:
        """Leave."""
        self._response.close()
        self._connection.close()


@dataclass(slots=True)
class Site:
    """The example, its ledger, and what each user should have paid."""

    settings: Settings
    redis_pid: int
    gate: SyncGate
    system: System
    paid: dict[UUID, int] = field(default_factory=dict)

    @contextmanager
    def serve(self, hold_ttl_ms: int) -> Iterator[Api]:
        """Serve the example in a process of its own."""
        port = free_port()
        variables = {
            "PYTHONPATH": os.pathsep.join([str(EXAMPLE), *sys.path]),
            "FAREGATE_REDIS_URL": self.settings.redis_url,
            "FAREGATE_POSTGRES_URL": self.settings.postgres_url,
            "FAREGATE_END_TIMEOUT_MS": "500",
        }
        command = [sys.executable, str(PROGRAM), str(port), str(hold_ttl_ms)]
        process = subprocess.Popen(command, env=os.environ | variables)
        api = Api(server="uvicorn", port=port, settings=self.settings, process=process)
        try:
            wait_for(lambda: api.listens() or process.poll() is not None, "the example answers")
            yield api
        finally:
            process.terminate()
            process.wait(WAIT_S_MAX)

    def sign_up(self) -> UUID:
        """Make a user who has so many credits."""
        user = uuid4()
        assert self.gate.grant(user, CREDITS - Settings().starting_credits).allowed
        return user

    def expect(self, user: UUID, paid: int) -> None:
        """Wait until nothing of a user is held, and it has paid so much."""
        self.paid[user] = paid

        def is_paid() -> bool:
            balance = self.gate.balance(user)
            assert balance is not None
            return not self.holds(user) and balance.credits == CREDITS - paid

        wait_for(is_paid, f"{paid} credits are paid")

    def holds(self, user: UUID) -> list[OpenHold]:
        """What is held of a user."""
        with open_sweeper(self.settings) as sweeper:
            return sweeper.list_holds(user, 2)

    def check(self) -> None:
        """Make rows of all records; they and Redis say what each user has paid, to the credit."""
        self.system.drain()
        with psycopg.connect(self.settings.postgres_url) as connection:
            query = (
                "select user_id, -sum(amount) from public.credit_transactions"
                " where type in ('deduct', 'refund') group by user_id"
            )
            rows = {user: int(paid) for user, paid in connection.execute(query)}
        assert {user: rows.get(user, 0) for user in self.paid} == self.paid
        with open_stream(self.settings) as stream, open_audit(self.settings) as audit:
            assert reconcile(stream, stream, audit).is_exact


@pytest.fixture(scope="module")
def site(
    binaries: Binaries,
    servers: EmbeddedServers,
    template_database: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    """The ledger of this file, which is exact in the end."""
    log = tmp_path_factory.mktemp("llm") / "worker.log"
    with lone_ledger(binaries, servers, template_database) as (redis, settings):
        url = settings.postgres_url
        system = System(redis_url=settings.redis_url, database_url=url, log=log)
        with build_sync_gate(system.settings) as gate:
            site = Site(settings, redis.pid, gate, system)
            yield site
            site.check()


@pytest.fixture(scope="module")
def api(site: Site) -> Iterator[Api]:
    """The example, whose holds outlive each of these tests."""
    with site.serve(hold_ttl_ms=600_000) as running:
        yield running


@pytest.mark.parametrize(
    ("prompt", "max_tokens", "tier", "status", "paid"),
    [
        pytest.param("a b usage=9", 20, "capped", 200, 9, id="usage below the estimate"),
        pytest.param("a b cut", 20, "capped", 200, 5, id="no usage: the tokens are counted"),
        pytest.param("fail", 20, "capped", 502, 0, id="fails before its first token"),
        pytest.param("a b fail", 20, "capped", 200, 5, id="fails in the middle"),
        pytest.param("a usage=40", 5, "capped", 200, 40, id="usage above the estimate"),
        pytest.param("a usage=130", 5, "capped", 200, 100, id="usage above the balance, capped"),
        pytest.param("a usage=130", 5, "overdraft", 200, 130, id="usage above it, overdraft"),
        pytest.param("a usage=190", 5, "overdraft", 200, 150, id="usage above the overdraft"),
        pytest.param("a b", 100, "capped", 402, 0, id="more than there is"),
        pytest.param("a b", 0, "capped", 422, 0, id="not valid"),
    ],
)
def test_a_stream_costs_what_it_took(
    site: Site, api: Api, prompt: str, max_tokens: int, tier: str, status: int, paid: int
) -> None:
    """The tokens that the model reports or, where it does not, those that were sent."""
    user = site.sign_up()
    with closing(Stream(api.port, user, tier, prompt, max_tokens)) as stream:
        assert stream.status == status
        last = stream.rest()[-1]
        if status == 200:
            failed = '{"error": "the model failed"}'
            assert last == (failed if "fail" in prompt else "[DONE]")
    site.expect(user, paid)


def test_a_client_that_leaves_pays_for_what_it_was_sent(site: Site, api: Api) -> None:
    """And for its prompt of four tokens; the model is not asked for more."""
    user = site.sign_up()
    with closing(Stream(api.port, user, "capped", f"a b wait={user} c", 20)) as stream:
        assert [stream.text(), stream.text()] == ["a", "b"]
        assert [hold.amount for hold in site.holds(user)] == [24]
    site.expect(user, 6)


def test_a_stream_ends_while_redis_does_not_answer(site: Site, api: Api) -> None:
    """It is settled in the background, once Redis is back; nobody waits for that."""
    user = site.sign_up()
    with closing(Stream(api.port, user, "capped", f"a wait={user} b usage=9", 20)) as stream:
        assert stream.text() == "a"
        with stopped(site.redis_pid):
            assert api.ask(f"/release/{user}", method="POST").status == 200
            assert stream.text() == "b"
            assert json.loads(stream.event())["usage"] == {"total_tokens": 9}
            assert stream.rest() == ["[DONE]"]
            wait_for(lambda: api.ask("/waiting").json() == 1, "the settlement waits")
    site.expect(user, 9)


def test_a_long_stream_is_held_all_the_time_and_that_of_a_killed_process_expires(
    site: Site,
) -> None:
    """As the policy says: the estimate is given back, or kept."""
    long, given_back, kept = site.sign_up(), site.sign_up(), site.sign_up()
    with site.serve(SHORT_TTL_MS) as api, ExitStack() as streams:

        def begin(user: UUID, tier: str) -> Stream:
            stream = Stream(api.port, user, tier, f"a wait={user} b usage=9", 20)
            assert streams.enter_context(closing(stream)).text() == "a"
            return stream

        stream = begin(long, "capped")
        (hold,) = site.holds(long)
        wait_for(lambda: site.holds(long)[0].expires_at > hold.expires_at, "it is extended")
        assert api.ask(f"/release/{long}", method="POST").status == 200
        assert stream.rest()[-1] == "[DONE]"
        site.expect(long, 9)

        begin(given_back, "capped")
        begin(kept, "kept")
        api.process.kill()
        with site.system.worker():
            site.expect(given_back, 0)
            site.expect(kept, 24)
