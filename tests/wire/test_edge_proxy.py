"""The example of an API behind proxies, behind one of a content delivery network."""

from collections.abc import Iterator

import httpx
import pytest

from edge_proxy import ADDRESS, EdgeProxy, edge_proxy
from example_rig import EXAMPLES, ExampleLedger, served
from faregate import Settings
from waiting import WAIT_S_MAX
from wire_client import Api

#: What clients claim of themselves.
CLAIMED = {"x-forwarded-for": "6.6.6.6", "cf-connecting-ip": "6.6.6.6"}
CHARGE = ("deduct", -1)


@pytest.fixture(scope="module")
def api(wire_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    command, log = "uvicorn --no-proxy-headers app:app", tmp_path_factory.mktemp("edge") / "log"
    variables = {"TRUSTED_PROXIES": ADDRESS, "FAREGATE_PROVISION_USERS": "true"}
    folder = EXAMPLES / "behind_nginx"
    with served(command, folder, wire_settings, log, **variables) as running:
        yield running


@pytest.fixture
def edge(api: Api) -> Iterator[EdgeProxy]:
    with edge_proxy(api.port) as running:
        yield running


def get(port: int, address: str, **fields: str) -> httpx.Response:
    """Ask for a report from an address of this machine."""
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    transport = httpx.HTTPTransport(local_address=address)
    with httpx.Client(transport=transport, trust_env=False, timeout=WAIT_S_MAX) as client:
        return client.get(f"http://127.0.0.1:{port}/reports/0", headers={**CLAIMED, **named})


def test_a_client_is_charged_by_its_address_with_and_without_the_proxy(
    api: Api, edge: EdgeProxy
) -> None:
    """The address that it claims counts neither behind the proxy nor past it."""
    left = [
        get(port, address).json()["left"]
        for port, address in (
            (edge.port, "127.0.0.7"),
            (edge.port, "127.0.0.8"),
            (edge.port, "127.0.0.7"),
            (api.port, "127.0.0.7"),
            (api.port, "127.0.0.6"),
        )
    ]
    assert edge.sent[0] == "6.6.6.6, 127.0.0.7"
    assert left == [2, 2, 1, 0, 2]


def test_a_502_after_the_charge_is_made_good_by_the_key_alone(
    wire_settings: Settings, edge: EdgeProxy
) -> None:
    """A retry with the key gets the response that was lost. Without a key it is charged anew."""
    ledger = ExampleLedger(wire_settings)
    for fields, charges in (({"idempotency_key": "order-7"}, 1), ({}, 2)):
        customer = ledger.sign_up()
        edge.responses_to_lose = 1
        fields["authorization"] = f"Bearer {customer.key}"
        assert get(edge.port, "127.0.0.1", **fields).status_code == 502
        answer = get(edge.port, "127.0.0.1", **fields)
        assert (answer.status_code, answer.json()["left"]) == (200, 3 - charges)
        assert answer.headers.get("idempotent-replayed") == ("true" if charges == 1 else None)
        assert ledger.rows(customer) == [CHARGE] * charges
    assert ledger.findings() == []
