"""The gate in front of a WSGI app: what a client gets, and what it has paid for it."""

import inspect
import io
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast
from wsgiref.util import setup_testing_defaults

import pytest

from faregate import SyncGate
from faregate.asgi import FaregateMiddleware, KeyUse, Rule, exempt
from faregate.domain.errors import ConfigurationError, LedgerUnavailableError
from faregate.testing import Failure, memory_gate
from faregate.wsgi import FaregateWSGI
from faregate.wsgi.middleware import MiddlewareOptions
from faregate.wsgi.request import scope_of
from faregate.wsgi.response import StartResponse, WSGIApp
from wsgi_client import Site, answers, ask

KEYED = Rule(key_use=KeyUse.OPTIONAL, replay_bytes_max=4_096)


@pytest.fixture
def site() -> Iterator[Site]:
    memory = memory_gate(credits=3)
    with SyncGate(lambda: memory) as gate:
        yield Site(memory, gate, memory.sign_up())


def test_a_request_is_charged_and_its_response_shows_the_balance(site: Site) -> None:
    """With the fields of ASGI, and the words of the app's own status."""
    got = ask(site.around(answers("200 Splendid", b"a", b"", b"b")))
    assert (got.status, got.body, got.error) == ("200 Splendid", b"ab", None)
    assert got.headers["ratelimit"] == '"credits";r=2'
    assert site.taken == 1


def test_without_credits_the_app_does_not_run(site: Site) -> None:
    """The client gets the problem of ASGI."""

    def never(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        raise AssertionError

    site.memory.set_credits(site.user, 0)
    got = ask(site.around(never))
    assert got.status == "402 Payment Required"
    assert json.loads(got.body)["code"] == "out_of_credits"
    head = ask(site.around(never), "HEAD")
    assert (head.status, head.body) == ("402 Payment Required", b"")
    assert head.headers["content-length"] == got.headers["content-length"]
    with site.memory.failing(Failure.REDIS_DOWN):
        assert ask(site.around(never)).status == "503 Service Unavailable"


@pytest.mark.parametrize("status", ["404 Not Found", "500 Internal Server Error"])
def test_an_error_is_given_back(site: Site, status: str) -> None:
    """Before the response starts."""
    got = ask(site.around(answers(status, b"sorry")))
    assert (got.status, got.headers["ratelimit"]) == (status, '"credits";r=3')
    assert site.taken == 0


class Parts:
    """A body that fails where it is told to, and notes its close."""

    def __init__(self, *parts: bytes | BaseException) -> None:
        self._parts = iter(parts)
        self.is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        part = next(self._parts)
        if isinstance(part, BaseException):
            raise part
        return part

    def close(self) -> None:
        self.is_closed = True


def begins(parts: Iterable[bytes]) -> WSGIApp:
    """An app that begins its response, and then has these parts."""

    def app(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return parts

    return app


@pytest.mark.parametrize("error", [ValueError("first"), SystemExit(1), KeyboardInterrupt()])
def test_a_failure_before_the_first_part_is_refunded(site: Site, error: BaseException) -> None:
    """The server gets the exception; the body is closed; the gate serves the next request."""
    parts = Parts(error)
    got = ask(site.around(begins(parts)))
    assert (got.error, got.status, parts.is_closed) == (error, "", True)
    assert site.taken == 0
    assert ask(site.around(answers("200 OK", b"a"))).error is None


def test_a_response_that_has_begun_is_paid_for(site: Site) -> None:
    """Whatever fails afterwards."""
    error = ValueError("second")
    parts = Parts(b"first", error)
    got = ask(site.around(begins(parts)))
    assert (got.error, got.body, parts.is_closed) == (error, b"first", True)
    assert site.taken == 1


def test_an_app_may_start_over_as_long_as_nothing_is_sent(site: Site) -> None:
    """By start_response with exc_info; afterwards that raises the exception."""

    def early(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        try:
            int("one")
        except ValueError as error:
            info = type(error), error, error.__traceback__
            start_response("500 Broken", [("Content-Type", "text/plain")], info)
        return [b"broken"]

    def late(environ: dict[str, Any], start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"first"
        try:
            int("late")
        except ValueError as error:
            info = type(error), error, error.__traceback__
            start_response("500 Broken", [("Content-Type", "text/plain")], info)

    got = ask(site.around(early))
    assert (got.status, got.body, site.taken) == ("500 Broken", b"broken", 0)
    got = ask(site.around(late))
    assert (got.status, type(got.error), site.taken) == ("200 OK", ValueError, 1)


def test_data_that_an_app_writes_comes_first(site: Site) -> None:
    """By the callable that start_response returns."""

    def app(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        write(b"one ")
        return [b"two"]

    assert ask(site.around(app)).body == b"one two"


def test_a_gate_that_closes_gives_back_requests_under_way(site: Site) -> None:
    """They get no response."""

    def closing(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        assert site.taken == 1
        site.gate.close()
        return answers("200 OK", b"a")(environ, start_response)

    got = ask(site.around(closing))
    assert isinstance(got.error, LedgerUnavailableError)
    assert site.taken == 0


def test_a_client_that_leaves_has_paid(site: Site) -> None:
    """The server closes the response before its end; a hold is settled by its estimate."""
    parts = Parts(b"first", b"second")
    app = site.around(begins(parts), rules=[Rule(estimate=2)])
    environ: dict[str, Any] = {"QUERY_STRING": ""}
    setup_testing_defaults(environ)
    begun = app(environ, lambda *_: lambda _: None)
    assert next(iter(begun)) == b"first"
    cast("Any", begun).close()
    assert parts.is_closed
    assert site.taken == 2


def test_a_client_that_leaves_has_paid_the_cost_so_far(site: Site) -> None:
    """Which the handler has said; the rest of the estimate goes back."""

    def app(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        for cost in (1, 2):
            environ["faregate.charge"].cost_so_far = cost
            yield b"part"

    environ: dict[str, Any] = {"QUERY_STRING": ""}
    setup_testing_defaults(environ)
    begun = site.around(app, rules=[Rule(estimate=3)])(environ, lambda *_: lambda _: None)
    assert next(iter(begun)) == b"part"
    cast("Any", begun).close()
    assert environ["faregate.charge"].cost_so_far == 1
    assert site.taken == 1


def test_a_handler_settles_its_hold(site: Site) -> None:
    """And adds to its charge, by what it finds in its environ."""

    def app(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        charge = environ["faregate.charge"]
        assert charge.settle(1).refunded == 1
        assert charge.add(1).allowed
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"%d" % charge.credits]

    got = ask(site.around(app, rules=[Rule(estimate=2)]))
    assert (got.error, got.body, site.taken) == (None, b"1", 2)


@pytest.mark.parametrize("has_length", [True, False])
def test_a_retry_with_its_key_gets_the_first_response(site: Site, *, has_length: bool) -> None:
    """It is charged and served once."""
    app = site.around(answers("201 Created", b"a", b"b", length=has_length), rules=[KEYED])
    first, again = (ask(app, "POST", b"body", idempotency_key='"k"') for _ in range(2))
    assert (first.status, first.body, site.taken) == ("201 Created", b"ab", 1)
    assert (again.status, again.body) == ("201 Created", b"ab")
    assert again.headers["idempotent-replayed"] == "true"
    other = ask(app, "POST", b"other", idempotency_key='"k"')
    assert other.status.startswith("422")


@pytest.mark.parametrize("length", [0, 5, 200_000, 3_000_000])
def test_the_app_reads_the_body_that_the_gate_has_read(site: Site, length: int) -> None:
    """Whole, and with no byte more, however large it is."""
    sent = bytes(range(256)) * (length // 256 + 1)

    def app(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        assert environ["wsgi.input"].read(1) == b""
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"%d" % len(body) if body == sent[:length] else b"other"]

    got = ask(site.around(app, rules=[KEYED]), "POST", sent[:length], idempotency_key='"k"')
    assert (got.error, got.body) == (None, b"%d" % length)


def test_an_upload_that_breaks_off_is_not_charged(site: Site) -> None:
    """The gate reads it first, since it has a key; the app does not run."""
    environ: dict[str, Any] = {"QUERY_STRING": "", "REQUEST_METHOD": "POST"}
    setup_testing_defaults(environ)
    environ |= {"CONTENT_LENGTH": "9", "wsgi.input": io.BytesIO(b"four")}
    environ["HTTP_IDEMPOTENCY_KEY"] = "k"
    told: list[str] = []

    def start_response(status: str, _: object) -> Callable[[bytes], object]:
        told.append(status)
        return bytes

    app = site.around(answers("200 OK", b"a"), rules=[KEYED])
    body = b"".join(app(environ, start_response))
    assert (told, body, site.memory.charged()) == (["400 Bad Request"], b"", 0)


def test_a_request_has_the_scope_of_its_environ() -> None:
    """Its path is whole, as ASGI has it, and in UTF-8; an address that is not known is None."""
    environ: dict[str, Any] = {
        "SCRIPT_NAME": "/api",
        "PATH_INFO": "/\xc3\xa9",
        "QUERY_STRING": "a=1",
    }
    setup_testing_defaults(environ)
    environ |= {"REMOTE_ADDR": "", "CONTENT_TYPE": "", "HTTP_X_USER": "a"}
    scope = scope_of(environ)
    assert (scope["path"], scope["root_path"], scope["query_string"]) == ("/api/é", "/api", b"a=1")
    assert scope["client"] is None
    assert (b"x-user", b"a") in scope["headers"]
    assert b"content-type" not in dict(scope["headers"])
    assert scope_of(environ | {"REMOTE_ADDR": "::1", "REMOTE_PORT": "8"})["client"] == ("::1", 8)


def test_exempt_paths_need_no_server(site: Site) -> None:
    """Nor a user."""
    with site.memory.failing(Failure.REDIS_DOWN):
        got = ask(site.around(answers("200 OK", b"up"), rules=exempt("/")))
    assert (got.status, got.body, site.taken) == ("200 OK", b"up", 0)


def test_options_that_wsgi_cannot_support_are_refused_at_the_start(site: Site) -> None:
    """So is a gate of asyncio, and a second middleware."""
    app = answers("200 OK", b"a")
    with pytest.raises(ConfigurationError, match="is_deferred"):
        site.around(app, rules=[Rule(is_deferred=True)])
    with pytest.raises(TypeError, match="SyncGate"):
        FaregateWSGI(app, cast("SyncGate", site.memory), lambda _: site.user)
    got = ask(site.around(site.around(app)))
    assert isinstance(got.error, ConfigurationError)
    assert site.taken == 0


def test_options_equal_those_of_the_asgi_middleware() -> None:
    """One that is added there is added here."""
    parameters = inspect.signature(FaregateMiddleware).parameters.values()
    options = {one.name for one in parameters if one.kind is one.KEYWORD_ONLY}
    assert options == set(MiddlewareOptions.__annotations__)
