"""The example behind a real nginx: who is charged, and what late and lost responses cost."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from example_rig import EXAMPLES, Customer, ExampleLedger, served
from faregate import Settings, SyncGate, build_sync_gate
from faregate.asgi.identity import Caller, anonymous
from faregate.cli.servers import Binaries, EmbeddedServers
from nginx import check_installed, nginx
from servers import lone_ledger
from waiting import WAIT_S_MAX, wait_for
from wire_client import Api

pytestmark = [pytest.mark.redis, pytest.mark.postgres]
VISITORS = UUID("7b1a3a3e-2f61-5f5b-9b0e-6d1c0a1f2e3d")
APP = EXAMPLES / "behind_nginx"
#: How long the app lets a report take, in seconds; and nginx, where it is the first to give up.
TIMEOUT_S, SHORT_S = 4, 1
LATE = "/reports/60"
IMPATIENT = {"proxy_read_timeout 40s": f"proxy_read_timeout {SHORT_S}s"}
CHARGE, REFUND = ("deduct", -1), ("refund", 1)


@pytest.fixture(scope="module")
def settings(
    binaries: Binaries, servers: EmbeddedServers, template_database: str
) -> Iterator[Settings]:
    check_installed()
    with lone_ledger(binaries, servers, template_database) as (_, settings):
        yield settings


@pytest.fixture(scope="module")
def api(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    command, log = "uvicorn --no-proxy-headers app:app", tmp_path_factory.mktemp("app") / "log"
    variables = {"REPORT_TIMEOUT_S": str(TIMEOUT_S), "FAREGATE_PROVISION_USERS": "true"}
    with served(command, APP, settings, log, **variables) as running:
        yield running


@pytest.fixture(scope="module")
def front(api: Api, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The example's nginx."""
    with nginx(api, tmp_path_factory.mktemp("nginx")) as running:
        yield running


@pytest.fixture
def ledger(settings: Settings) -> ExampleLedger:
    return ExampleLedger(settings)


@pytest.fixture
def gate(settings: Settings) -> Iterator[SyncGate]:
    with build_sync_gate(settings) as gate:
        yield gate


@pytest.fixture
def customer(ledger: ExampleLedger) -> Customer:
    return ledger.sign_up()


def get(front: Api, path: str, customer: Customer, **fields: str) -> httpx.Response:
    fields = {name.replace("_", "-"): value for name, value in fields.items()}
    fields["authorization"] = f"Bearer {customer.key}"
    url = f"http://127.0.0.1:{front.port}{path}"
    return httpx.get(url, headers=fields, timeout=WAIT_S_MAX, trust_env=False)


def rows(ledger: ExampleLedger, customer: Customer, count: int) -> list[tuple[str, int]]:
    """The rows of a customer, once there are so many."""
    wait_for(lambda: len(ledger.rows(customer)) >= count, f"{count} rows")
    return ledger.rows(customer)


def test_a_visitor_is_charged_by_the_address_that_nginx_sees(front: Api, gate: SyncGate) -> None:
    """Whatever address the visitor claims."""
    transport = httpx.HTTPTransport(local_address="127.0.0.7")
    url = f"http://127.0.0.1:{front.port}/reports/0"
    with httpx.Client(transport=transport, trust_env=False) as client:
        told = [
            client.get(url, headers={"x-forwarded-for": claimed}).json()["left"]
            for claimed in ("6.6.6.6", "127.0.0.1, 7.7.7.7")
        ]
    assert told == [2, 1]
    scope = {"type": "http", "client": ("127.0.0.7", 1), "headers": []}
    caller = anonymous(VISITORS)(scope)
    assert isinstance(caller, Caller)
    balance = gate.balance(caller.user_id)
    assert balance is not None
    assert balance.credits == 1


def test_a_report_that_is_late_for_the_app_is_refunded(
    front: Api, ledger: ExampleLedger, customer: Customer
) -> None:
    """The app answers before nginx gives up."""
    assert get(front, LATE, customer).status_code == 504
    assert ledger.rows(customer) == [CHARGE, REFUND]
    assert ledger.findings() == []


def test_a_request_that_nginx_gives_up_is_paid_and_its_retry_by_key_is_free(
    api: Api, ledger: ExampleLedger, customer: Customer, tmp_path: Path
) -> None:
    """The app had the whole request. With its key, the client gets the response of the first."""
    path, key = f"/reports/{SHORT_S + 1}", "order-7"
    with nginx(api, tmp_path, IMPATIENT) as front:
        assert get(front, path, customer, idempotency_key=key).status_code == 504
        early = get(front, path, customer, idempotency_key=key)
        assert (early.status_code, early.json()["code"]) == (409, "key_in_flight")

        def again() -> httpx.Response:
            return get(front, path, customer, idempotency_key=key)

        wait_for(lambda: again().status_code == 200, "the first request is served")
        assert again().headers["idempotent-replayed"] == "true"
    assert ledger.rows(customer) == [CHARGE]


@pytest.mark.parametrize(
    ("changes", "charges"),
    [({}, 1), ({"proxy_next_upstream off;": ""}, 2)],
    ids=["as the example has it", "by default"],
)
def test_a_request_goes_to_one_server(
    api: Api, ledger: ExampleLedger, changes: dict[str, str], charges: int, tmp_path: Path
) -> None:
    """By nginx's default a late one goes to the next server, too, and is charged there again."""
    customer, app = ledger.sign_up(), "server 127.0.0.1:8000;"
    with nginx(api, tmp_path, {app: 2 * app, **IMPATIENT, **changes}) as front:
        assert get(front, f"/reports/{SHORT_S + 1}", customer).status_code == 504
    assert rows(ledger, customer, charges) == [CHARGE] * charges


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, []), ({"proxy_request_buffering on": "proxy_request_buffering off"}, [CHARGE, REFUND])],
    ids=["buffered", "not buffered"],
)
def test_an_upload_that_breaks_off_costs_nothing(
    api: Api,
    ledger: ExampleLedger,
    changes: dict[str, str],
    expected: list[tuple[str, int]],
    tmp_path: Path,
) -> None:
    """It never reaches the app, or is refunded there."""
    customer = ledger.sign_up()
    head = f"POST /uploads HTTP/1.1\r\nHost: api\r\nAuthorization: Bearer {customer.key}\r\n"
    with nginx(api, tmp_path, changes) as front:
        with socket.create_connection(("127.0.0.1", front.port), WAIT_S_MAX) as upload:
            upload.sendall(f"{head}Content-Length: 1000\r\n\r\nthe beginning".encode())
            if expected:
                wait_for(lambda: ledger.rows(customer), "it is charged")
        assert rows(ledger, customer, len(expected)) == expected
        whole = {"authorization": f"Bearer {customer.key}"}
        url = f"http://127.0.0.1:{front.port}/uploads"
        answer = httpx.post(url, content=bytes(1000), headers=whole, trust_env=False)
        assert answer.json() == {"bytes": 1000}
    assert ledger.rows(customer) == [*expected, CHARGE]


def test_a_client_that_leaves_has_paid(
    front: Api, ledger: ExampleLedger, customer: Customer
) -> None:
    """nginx notes a 499. The app had the whole request, and its work is done."""
    head = f"GET /reports/1 HTTP/1.1\r\nHost: api\r\nAuthorization: Bearer {customer.key}\r\n"
    with socket.create_connection(("127.0.0.1", front.port), WAIT_S_MAX) as leaving:
        leaving.sendall(f"{head}\r\n".encode())
        wait_for(lambda: ledger.rows(customer), "it is charged")
    assert get(front, "/reports/2", customer).status_code == 200
    assert ledger.rows(customer) == [CHARGE, CHARGE]


def test_a_stream_passes_as_it_comes(front: Api, customer: Customer) -> None:
    """`X-Accel-Buffering: no` lets the first line through before the second one is made."""
    url = f"http://127.0.0.1:{front.port}/stream"
    fields = {"authorization": f"Bearer {customer.key}"}
    with httpx.stream("GET", url, headers=fields, timeout=WAIT_S_MAX, trust_env=False) as answer:
        assert next(answer.iter_lines()) == "first"
        assert "x-accel-buffering" not in answer.headers


def test_a_cache_keeps_no_response_that_was_charged(
    api: Api, ledger: ExampleLedger, tmp_path: Path
) -> None:
    """Each of two customers gets the fields of its own balance."""
    cached = "proxy_pass http://api;\n        proxy_cache api;\n        proxy_cache_valid 200 1h;"
    zone = f"proxy_cache_path {tmp_path}/cache keys_zone=api:1m;\n\nupstream api {{"
    changes = {"proxy_pass http://api;": cached, "upstream api {": zone}
    with nginx(api, tmp_path, changes) as front:
        for granted in (0, 10):
            answer = get(front, "/reports/0", ledger.sign_up(granted))
            assert answer.headers["ratelimit"] == f'"credits";r={granted + 2}'


async def test_http_2_and_compression_change_no_field(
    api: Api, ledger: ExampleLedger, customer: Customer, tmp_path: Path
) -> None:
    """64 requests on one connection of HTTP/2: three are served, the others are refused."""
    changes = {"listen 8080;": "listen 8080 http2;", "gzip on": "gzip_min_length 1;\n    gzip on"}
    fields = {"authorization": f"Bearer {customer.key}"}
    with nginx(api, tmp_path, changes) as front:
        url = f"http://127.0.0.1:{front.port}/reports/0"
        async with httpx.AsyncClient(
            http1=False, http2=True, headers=fields, timeout=WAIT_S_MAX, trust_env=False
        ) as client:
            answers = await asyncio.gather(*(client.get(url) for _ in range(64)))
    assert {answer.http_version for answer in answers} == {"HTTP/2"}
    assert sorted(answer.status_code for answer in answers) == [200] * 3 + [402] * 61
    served_ones = [answer for answer in answers if answer.status_code == 200]
    assert {answer.headers["content-encoding"] for answer in served_ones} == {"gzip"}
    assert {answer.headers["ratelimit"] for answer in served_ones} == {
        f'"credits";r={left}' for left in range(3)
    }
    assert ledger.rows(customer) == [CHARGE] * 3
    assert ledger.findings() == []
