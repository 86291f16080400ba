"""Flask behind the gate, on servers of WSGI that fork and have threads: exact to the credit."""

import http.client
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from durable import STARTING_CREDITS
from example_rig import ExampleLedger
from faregate import Settings, build_sync_gate
from waiting import WAIT_S_MAX, wait_for
from wire_client import Api, free_port

PROGRAM = Path(__file__).parents[1] / "wsgi_app.py"
CONNECTIONS, ROUNDS, GRANTED = 64, 2, 10_000
#: What a user has, and how many requests each connection sends, so that not all can be paid for.
CREDITS, REQUESTS_EACH = 100, 3
#: Method, path, status and what is paid for it. The last two are one request, and its retry, of
#: which the first is sent without its length.
REQUESTS = [
    ("GET", "/", 200, 1),
    ("GET", "/failed", 500, 0),
    ("GET", "/held", 200, 1),
    ("GET", "/streamed", 200, 1),
    ("GET", "/missing", 404, 0),
    ("POST", "/replayed", 200, 1),
    ("POST", "/replayed", 200, 0),
]


def command(server: str, port: int) -> list[str]:
    """How the app is started on a server."""
    if server == "flask":
        return [sys.executable, str(PROGRAM), str(port)]
    forks = ["--preload", "--workers", "2", "--worker-class", "gthread", "--threads", "16"]
    bound = ["--bind", f"127.0.0.1:{port}", "--timeout", "120", "--keep-alive", "60"]
    return [sys.executable, "-m", "gunicorn", *forks, *bound, "wsgi_app:app"]


@contextmanager
def served(server: str, settings: Settings, log: Path, preloaded: UUID) -> Iterator[Api]:
    """Run the app on a server, and end it in order."""
    port = free_port()
    variables = {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "FAREGATE_REDIS_URL": settings.redis_url,
        "FAREGATE_POSTGRES_URL": settings.postgres_url,
        "WSGI_APP_USER": str(preloaded),
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            command(server, port), env=os.environ | variables, stdout=output, stderr=output
        )
    api = Api(server=server, port=port, settings=settings, process=process)
    try:
        wait_for(lambda: api.ready() or process.poll() is not None, f"{server} answers")
        yield api
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(WAIT_S_MAX)


def client(api: Api, user: UUID) -> tuple[int, set[int]]:
    """Send all requests on one connection, some times; return what was paid and who served."""
    paid, served_by = 0, set()
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=WAIT_S_MAX)
    with closing(connection):
        for _ in range(ROUNDS):
            fields = {"x-user": str(user), "idempotency-key": str(uuid4())}
            for method, path, status, cost in REQUESTS:
                parts = [bytes(50_000)] * 2 if method == "POST" else []
                body = iter(parts) if parts and cost else b"".join(parts)
                connection.request(method, path, body, fields)
                response = connection.getresponse()
                told = response.read()
                assert response.status == status, (path, told)
                assert method != "POST" or told == b"100000"
                paid += cost
                if path == "/":
                    served_by.add(int(told))
    return paid, served_by


@pytest.mark.parametrize("server", ["gunicorn", "flask"])
def test_64_connections_pay_for_their_responses(
    server: str, wire_settings: Settings, tmp_path: Path
) -> None:
    """All processes are served by gates of their own, though the app was in use at the fork."""
    users = [uuid4() for _ in range(4)]
    preloaded, log = uuid4(), tmp_path / "log"
    settings = wire_settings.model_copy(update={"provision_users": True})
    with build_sync_gate(settings) as gate:
        for user in users:
            gate.grant(user, GRANTED)
        with (
            served(server, wire_settings, log, preloaded) as api,
            ThreadPoolExecutor(CONNECTIONS) as pool,
        ):
            payers = users * (CONNECTIONS // len(users))
            done = list(pool.map(lambda user: client(api, user), payers))
        processes = {pid for _, pids in done for pid in pids}
        assert len(processes) == (2 if server == "gunicorn" else 1)
        assert (api.process.pid in processes) is (server == "flask")
        for index, user in enumerate(users):
            balance = gate.balance(user)
            assert balance is not None
            paid = sum(paid for paid, _ in done[index :: len(users)])
            assert balance.credits == 3 + GRANTED - paid, log.read_text()
        first = gate.balance(preloaded)
        assert first is not None
        assert first.credits == 2
    assert ExampleLedger(wire_settings).findings() == []
    if server == "gunicorn":
        assert api.process.returncode == 0, log.read_text()


def spend(api: Api, user: UUID) -> Counter[int]:
    """Send requests on one connection; count the answers by their status."""
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=WAIT_S_MAX)
    told: Counter[int] = Counter()
    with closing(connection):
        for _ in range(REQUESTS_EACH):
            connection.request("GET", "/", headers={"x-user": str(user)})
            response = connection.getresponse()
            response.read()
            told[response.status] += 1
    return told


def test_64_connections_never_spend_more_than_the_credits(
    wire_settings: Settings, tmp_path: Path
) -> None:
    """By gunicorn's processes and threads: each request is served or refused, and each is a row."""
    ledger = ExampleLedger(wire_settings)
    customer = ledger.sign_up(CREDITS - STARTING_CREDITS)
    with (
        served("gunicorn", wire_settings, tmp_path / "log", uuid4()) as api,
        ThreadPoolExecutor(CONNECTIONS) as pool,
    ):
        told = sum(
            pool.map(lambda _: spend(api, customer.user_id), range(CONNECTIONS)), Counter[int]()
        )
    assert told == {200: CREDITS, 402: CONNECTIONS * REQUESTS_EACH - CREDITS}
    _, *charges = ledger.rows(customer)
    assert charges == [("deduct", -1)] * CREDITS
    assert ledger.findings() == []
