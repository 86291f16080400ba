"""The example of a top-up webhook: events are granted once, in whatever order and number."""

import hmac
import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from example_rig import EXAMPLES, ExampleLedger, served
from faregate import Settings
from faregate.cli.servers import EmbeddedValkey
from processes import stopped
from waiting import wait_for
from wire_client import Answer, Api

SIGNED_BY = "whsec_of_a_test"
#: How often each event is delivered, all at once.
TIMES = 20
PURCHASE_CENTS = 1_000


@pytest.fixture(scope="module")
def api(wire_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    log = tmp_path_factory.mktemp("top_up") / "log"
    folder = EXAMPLES / "top_up_webhook"
    with (
        payments() as url,
        served(
            "uvicorn app:app",
            folder,
            wire_settings,
            log,
            WEBHOOK_SECRET=SIGNED_BY,
            PAYMENTS_API_URL=url,
        ) as running,
    ):
        yield running


@pytest.fixture
def ledger(wire_settings: Settings) -> ExampleLedger:
    return ExampleLedger(wire_settings)


class Charges(BaseHTTPRequestHandler):
    """The API of the sender: a charge, by its id `ch_USER`."""

    def do_GET(self) -> None:
        user = self.path.rpartition("ch_")[2]
        body = json.dumps(charge(UUID(user))).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def payments() -> Iterator[str]:
    """Serve the API of the sender."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Charges) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def charge(user: UUID, refunded: int = 0) -> dict[str, Any]:
    """A charge that has bought 100 credits."""
    return {
        "id": f"ch_{user}",
        "amount": PURCHASE_CENTS,
        "amount_refunded": refunded,
        "metadata": {"user": str(user), "credits": "100"},
    }


def event(kind: str, thing: dict[str, Any], **data: Any) -> bytes:
    """An event with an id of its own, as it is sent."""
    return json.dumps(
        {"id": f"evt_{uuid4()}", "type": kind, "data": {"object": thing, **data}}
    ).encode()


def paid(user: UUID, kind: str = "completed", status: str = "paid") -> bytes:
    bought = {"id": f"cs_{user}", "payment_status": status, "metadata": charge(user)["metadata"]}
    return event(f"checkout.session.{kind}", bought)


def refunded(user: UUID, before: int, now: int) -> bytes:
    known = {"previous_attributes": {"amount_refunded": before}} if before else {}
    return event("charge.refunded", charge(user, now), **known)


def disputed(user: UUID, kind: str, amount: int) -> bytes:
    dispute = {"id": f"dp_{user}", "charge": f"ch_{user}", "amount": amount}
    return event(f"charge.dispute.{kind}", dispute)


def signature(body: bytes, *, age_s: int = 0, by: str = SIGNED_BY) -> str:
    sent_at = int(time.time()) - age_s
    signed = hmac.new(by.encode(), f"{sent_at}.".encode() + body, "sha256").hexdigest()
    return f"t={sent_at},v1={'0' * 64},v1={signed},v0=old"


def deliver(api: Api, body: bytes, field: str | None = None) -> Answer:
    """Send an event."""
    field = signature(body) if field is None else field
    return api.ask("/webhooks/payments", None, "POST", body=body, stripe_signature=field)


def test_events_that_come_often_and_in_any_order_count_once(
    api: Api, ledger: ExampleLedger
) -> None:
    """Two events of one purchase, two refunds of a part, a dispute that is lost and then won."""
    customer = ledger.sign_up()
    user = customer.user_id
    events = [
        paid(user),
        paid(user, "async_payment_succeeded"),
        refunded(user, 0, 333),
        refunded(user, 333, 500),
        disputed(user, "funds_withdrawn", 500),
        disputed(user, "funds_reinstated", 500),
    ]
    deliveries = events * TIMES
    random.Random(7).shuffle(deliveries)  # noqa: S311 -- an order that can be had again
    with ThreadPoolExecutor(TIMES) as pool:
        told = Counter(
            (answer.status, answer.body.decode())
            for answer in pool.map(lambda body: deliver(api, body), deliveries)
        )
    # Both events of the purchase are one change.
    assert told == {(200, "done\n"): 5, (200, "known\n"): len(deliveries) - 5}
    assert sorted(ledger.rows(customer)) == [
        ("add", 100),
        ("admin_adjustment", -50),
        ("admin_adjustment", -33),
        ("admin_adjustment", -17),
        ("admin_adjustment", 50),
    ]
    assert ledger.findings() == []


def test_an_event_that_is_not_signed_now_by_the_sender_is_a_400(
    api: Api, ledger: ExampleLedger
) -> None:
    """Nothing is granted for it."""
    customer = ledger.sign_up()
    body = paid(customer.user_id)
    forged = [
        "",
        "t=,v1=",
        f"t={'9' * 5_000},v1=00",
        "t=1,v1=\xe9",
        signature(body, by="another"),
        signature(body + b" "),
        signature(body, age_s=301),
        signature(body, age_s=-301),
    ]
    assert [deliver(api, body, field).status for field in forged] == [400] * len(forged)
    endless = b" " * 300_000
    assert deliver(api, endless, signature(endless)).status == 413
    assert ledger.rows(customer) == []


def test_an_event_that_says_nothing_of_credits_is_a_200(api: Api, ledger: ExampleLedger) -> None:
    """So that it is not sent again: another type, and a purchase that is not paid yet."""
    customer = ledger.sign_up()
    for body in (event("invoice.created", {}), paid(customer.user_id, status="unpaid")):
        answer = deliver(api, body)
        assert (answer.status, answer.body) == (200, b"nothing to do\n")
    assert ledger.rows(customer) == []


def test_an_event_that_cannot_be_decided_is_a_503_and_counts_when_it_comes_again(
    api: Api, ledger: ExampleLedger
) -> None:
    """As one whose user has not signed up yet."""
    user = uuid4()
    body = paid(user)
    answer = deliver(api, body)
    assert (answer.status, answer.body) == (503, b"unknown_user\n")
    with psycopg.connect(ledger.settings.postgres_url, autocommit=True) as connection:
        connection.execute("insert into auth.users (id) values (%s)", [user])
    assert deliver(api, body).body == b"done\n"


def test_an_event_in_an_outage_is_a_503_and_counts_once_after_it(
    own_redis: EmbeddedValkey, database_url: str, tmp_path: Path
) -> None:
    """Redis stands still while the event is delivered twice."""
    settings = Settings(redis_url=own_redis.url, postgres_url=database_url)
    ledger, folder = ExampleLedger(settings), EXAMPLES / "top_up_webhook"
    customer = ledger.sign_up()
    short = {"WEBHOOK_SECRET": SIGNED_BY, "FAREGATE_END_TIMEOUT_MS": "200"}
    with served("uvicorn app:app", folder, settings, tmp_path / "log", **short) as api:
        body = paid(customer.user_id)
        with stopped(own_redis.pid):
            assert [deliver(api, body).status for _ in range(2)] == [503, 503]
        wait_for(lambda: deliver(api, body).status == 200, "the event is decided")
    assert ledger.rows(customer) == [("add", 100)]
    assert ledger.findings() == []
