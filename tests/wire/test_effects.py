"""What a request has cost, by what becomes of it: read from the ledger, on each server."""

import contextlib
import http.client
import socket
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

from records_of import amounts, records
from waiting import wait_for
from wire_client import STREAM_BYTES, Api


def test_a_handler_that_answers_is_paid_for(api: Api, user: UUID) -> None:
    """One deduct, and the field says what it left."""
    answer = api.ask("/anything", user)
    assert (answer.status, answer.json()) == (200, {"credits": 2})
    assert answer.headers["ratelimit"] == '"credits";r=2'
    assert amounts(api, user) == [-1]


@pytest.mark.parametrize("path", ["/fail", "/raise"])
def test_a_handler_that_fails_before_its_response_is_refunded(
    api: Api, user: UUID, path: str
) -> None:
    """A 500, whether it is answered or raised: the refund is recorded before the client hears."""
    answer = api.ask(path, user)
    assert answer.status == 500
    assert amounts(api, user) == [-1, 1]
    (_, refund) = records(api, user)
    assert "500" in refund.description or refund.metadata == {"exception": "RuntimeError"}


def test_a_response_that_breaks_off_has_started_and_is_paid_for(api: Api, user: UUID) -> None:
    """No header can change any more, and nothing is given back."""
    # A server may end the body as if nothing were wrong; then the client has what was begun.
    with contextlib.suppress(http.client.HTTPException, OSError):
        assert api.ask("/raise-late", user).body == b"begun"
    assert amounts(api, user) == [-1]


def test_a_hundred_megabytes_pass_without_being_kept(api: Api, user: UUID) -> None:
    """The memory of the process grows by far less than the response is large."""
    assert api.ask("/stream", user).status == 200
    before = api.ask("/memory").json()
    answer = api.ask("/stream", user)
    grown = api.ask("/memory").json() - before
    assert len(answer.body) == STREAM_BYTES
    assert grown < STREAM_BYTES / 4, f"by {grown} bytes"
    assert amounts(api, user) == [-1, -1]


def test_a_client_that_goes_away_has_paid(api: Api, user: UUID) -> None:
    """What the handler does then is done for it."""
    with socket.create_connection(("127.0.0.1", api.port)) as connection:
        request = f"GET /slow HTTP/1.1\r\nhost: localhost\r\nx-user: {user}\r\n\r\n"
        connection.sendall(request.encode())
        wait_for(lambda: amounts(api, user) == [-1], "the request is charged")
    assert api.ask("/anything", user).json() == {"credits": 1}
    assert amounts(api, user) == [-1, -1]


def test_a_request_that_is_cancelled_before_its_response_is_given_back(
    api: Api, user: UUID
) -> None:
    """A timeout around the gate: the refund is recorded before the 504, and a retry is served."""
    assert api.ask("/cancelled", user, idempotency_key="one").status == 504
    assert amounts(api, user) == [-1, 1]
    assert api.ask("/cancelled", user, idempotency_key="one").status == 504
    wait_for(lambda: sum(amounts(api, user)) == 0, "what was cancelled sooner is given back")
    assert api.ask(f"/runs/{user}").json() == 0


def test_fifty_requests_with_one_key_are_one(api: Api, user: UUID) -> None:
    """One charge and one run of the handler; the others are told what becomes of it."""
    with ThreadPoolExecutor(50) as pool:
        answers = list(
            pool.map(
                lambda _: api.ask("/keyed", user, "POST", idempotency_key='"order-1"'), range(50)
            )
        )
    statuses = [answer.status for answer in answers]
    assert statuses.count(200) == 1
    assert statuses.count(409) == 49
    codes = {answer.json()["code"] for answer in answers if answer.status == 409}
    assert codes <= {"key_in_flight", "key_done"}
    assert api.ask(f"/runs/{user}").json() == 1
    assert amounts(api, user) == [-1]


def test_a_saved_response_is_sent_again(api: Api, user: UUID) -> None:
    """As it was, and marked; another request with its key is refused."""
    first = api.ask("/replayed", user, "POST", idempotency_key="again")
    again = api.ask("/replayed", user, "POST", idempotency_key='"again"')
    assert (first.status, first.body) == (again.status, again.body) == (200, b'{"credits":2}')
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    other = api.ask("/replayed?other", user, "POST", idempotency_key="again")
    assert (other.status, other.json()["code"]) == (422, "key_reused")
    assert api.ask(f"/runs/{user}").json() == 1
    assert amounts(api, user) == [-1]


def test_a_conversation_is_paid_for_by_the_message(api: Api, user: UUID) -> None:
    """One credit to connect, one for each message; the one that cannot be paid for ends it."""
    url = f"ws://127.0.0.1:{api.port}/talk"
    headers = {"x-user": str(user)}
    with connect(url, additional_headers=headers) as talk:
        assert talk.response is not None
        # Granian 2.8 sends no fields with its acceptance, whatever the app says.
        expected = None if api.server == "granian" else '"credits";r=2'
        assert talk.response.headers.get("ratelimit") == expected
        for left in (1, 0):
            talk.send("a word")
            assert talk.recv() == f"a word for {left}"
        talk.send("one too many")
        with pytest.raises(ConnectionClosedError) as closed:
            talk.recv()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "out_of_credits")
    assert amounts(api, user) == [-1, -1, -1]
    with pytest.raises(InvalidStatus) as refused, connect(url, additional_headers=headers):
        raise AssertionError("the connection is refused")
    assert refused.value.response.status_code in {402, 403}
    assert amounts(api, user) == [-1, -1, -1]
