"""How refusals are sent: as JSON or as a page, with which fields, and what may be configured."""

import json
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from typing import Any

import pytest
from starlette.types import Message

from decisions import REFUSALS
from faregate.asgi.answers import ACCEPT_CHARS_MAX, ProblemOptions, answer, prefers_html
from faregate.asgi.problems import NO_IDENTITY, UNAVAILABLE, UNKNOWN_USER, Problem
from faregate.asgi.refusals import problem_of
from faregate.domain.errors import ConfigurationError

UPGRADE_URL = "https://example.org/plans?a=1&b='2'"
FIREFOX = b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
POOR = problem_of(REFUSALS["no credits until midnight"])


def scope_of(method: str = "GET", accept: bytes | None = None) -> dict[str, Any]:
    headers = [] if accept is None else [(b"accept", accept)]
    return {"type": "http", "method": method, "headers": headers}


async def sent(
    problem: Problem, scope: dict[str, Any] | None = None, **options: Any
) -> tuple[Message, bytes]:
    """What is sent: the start of the response, and its body."""
    messages: list[Message] = []

    async def send(message: Message) -> None:
        messages.append(message)

    fields = [(b"x-field", b"1")]
    options = {"options": ProblemOptions(**options)} if options else {}
    await answer(problem, scope or scope_of(), send, fields=fields, **options)
    start, body = messages
    return start, body["body"]


async def test_a_problem_is_a_whole_response() -> None:
    """Its length is known, it is not to be stored, and its media type is that of problems."""
    start, body = await sent(UNKNOWN_USER)
    assert (start["type"], start["status"]) == ("http.response.start", 403)
    assert start["headers"] == [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"x-field", b"1"),
    ]
    assert json.loads(body) == ProblemOptions().members_of(UNKNOWN_USER)


@pytest.mark.parametrize("accept", [None, FIREFOX], ids=["json", "page"])
async def test_a_head_request_gets_the_length_but_no_body(accept: bytes | None) -> None:
    """HEAD answers with the headers of a GET, and nothing after them."""
    got, body = await sent(UNKNOWN_USER, scope_of("GET", accept))
    start, nothing = await sent(UNKNOWN_USER, scope_of("HEAD", accept))
    assert start == got
    assert body
    assert nothing == b""


async def test_a_websocket_is_refused_with_the_same_response() -> None:
    """By the extension of ASGI that lets a server answer the handshake."""
    scope = {"type": "websocket", "headers": []}
    start, body = await sent(UNAVAILABLE, scope)
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 503)
    assert json.loads(body)["code"] == "unavailable"


async def test_temporary_problems_have_a_retry_time() -> None:
    """In whole seconds; where waiting does not help, nothing suggests it."""
    start, body = await sent(POOR)
    assert dict(start["headers"])[b"retry-after"] == b"50400"
    assert json.loads(body)["retry_after"] == 50_400
    start, body = await sent(NO_IDENTITY)
    assert b"retry-after" not in dict(start["headers"])
    assert "retry_after" not in json.loads(body)


async def test_a_link_leads_to_where_there_is_more() -> None:
    """The relation `payment` is registered for it (RFC 8288), and the body has it, too."""
    start, body = await sent(POOR, upgrade_url=UPGRADE_URL)
    link = f'<{UPGRADE_URL}>; rel="payment"'
    assert dict(start["headers"])[b"link"] == link.encode()
    assert json.loads(body)["upgrade_url"] == UPGRADE_URL
    start, body = await sent(UNAVAILABLE, upgrade_url=UPGRADE_URL)
    assert b"link" not in dict(start["headers"])
    assert "upgrade_url" not in json.loads(body)


@pytest.mark.parametrize(
    ("accept", "is_page"),
    [
        (None, False),
        (b"", False),
        (b"*/*", False),
        (b"application/json", False),
        (FIREFOX, True),
        (b"text/html", True),
        (b"TEXT/HTML;Q=0.1", True),
        (b"text/*", True),
        (b"text/html;q=0", False),
        (b"text/html, application/json", False),
        (b"text/html, application/problem+json", False),
        (b"text/html;q=0.5, application/json;q=0.6", False),
        (b"text/html;q=0.7, application/*;q=0.6", True),
        (b"text/*;q=0.9, text/html;q=0.2, */*;q=0.5", False),
        (b"text/plain, */*;q=0.1", False),
        (b"text/html;level=1;q=0.4, */*;q=0.3", True),
        (b"text/html;q=2, */*;q=0.1", False),
        (b"text/html;q=0.12345, */*;q=0.1", False),
        (b"text/html;q=nan, */*;q=0.1", False),
        (b"text/html,,;;q=1, ;", True),
        (b"text/html," + b"a/b," * ACCEPT_CHARS_MAX, False),
    ],
)
def test_a_page_goes_to_clients_that_prefer_one(accept: bytes | None, is_page: object) -> None:
    """As RFC 9110 weighs media ranges; who takes both alike is a program."""
    assert prefers_html(scope_of(accept=accept)) is is_page


def test_an_accept_field_may_come_in_lines() -> None:
    """They are one list."""
    scope = scope_of(accept=b"text/html;q=0.3")
    scope["headers"].append((b"accept", b"application/json;q=0.4"))
    assert not prefers_html(scope)


class Page(HTMLParser):
    """Reads what a browser would show and follow."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.text = ""
        self.tags: list[str] = []
        self.links: list[str | None] = []
        self.style = ""
        self.feed(body.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in {"href", "src"}]

    def handle_data(self, data: str) -> None:
        if self.tags[-1] == "style" and not self.style:
            self.style = data
        else:
            self.text += data


async def test_a_browser_gets_a_page_that_says_the_same() -> None:
    """With the status, fields and link of the JSON."""
    json_start, _ = await sent(POOR, upgrade_url=UPGRADE_URL)
    start, body = await sent(POOR, scope_of(accept=FIREFOX), upgrade_url=UPGRADE_URL)
    page, headers = Page(body), dict(start["headers"])
    assert start["status"] == json_start["status"]
    assert headers[b"content-type"] == b"text/html; charset=utf-8"
    assert headers[b"content-length"] == str(len(body)).encode()
    for name in (b"cache-control", b"retry-after", b"link", b"x-field"):
        assert headers[name] == dict(json_start["headers"])[name]
    assert page.links == [UPGRADE_URL]
    for told in (POOR.title, POOR.detail, "2026-11-24T00:00:00Z", "50400 s", "out_of_credits"):
        assert told in page.text


async def test_a_page_runs_nothing_and_loads_nothing() -> None:
    """Its policy allows its own style by digest, and nothing else."""
    start, body = await sent(POOR, scope_of(accept=FIREFOX))
    headers = dict(start["headers"])
    digest = b64encode(sha256(Page(body).style.encode()).digest()).decode()
    policy = headers[b"content-security-policy"].decode().split("; ")
    assert {"default-src 'none'", "frame-ancestors 'none'"} <= set(policy)
    assert f"style-src 'sha256-{digest}'" in policy
    assert headers[b"x-content-type-options"] == b"nosniff"
    assert {"script", "img", "link", "iframe"}.isdisjoint(Page(body).tags)


async def test_a_page_shows_text_as_text() -> None:
    """Names of policies are the configuration's, but a page does not rely on that."""
    tricky = Problem(
        code="voided",
        status=409,
        title="</title><script>alert(1)</script>",
        detail="\"quotes\" & 'more' <b>",
        extensions={"resets_at": '"><script>'},
    )
    _, body = await sent(tricky, scope_of(accept=FIREFOX))
    assert b"<script" not in body
    assert b"<b>" not in body
    assert tricky.detail in Page(body).text


async def test_statuses_are_configured_by_code() -> None:
    """In the response and in its body alike."""
    start, body = await sent(
        problem_of(REFUSALS["no credits, and none to come"]),
        statuses={"out_of_credits": 429},
    )
    assert start["status"] == json.loads(body)["status"] == 429


async def test_a_balance_that_a_reset_fills_stays_a_429() -> None:
    """Since clients wait for that status, whatever the one of an empty balance is."""
    start, _ = await sent(POOR, statuses={"out_of_credits": 403})
    assert start["status"] == 429


async def test_a_problem_without_a_type_has_the_title_of_its_status() -> None:
    """RFC 9457, section 4.2.1, asks so of about:blank, whatever the status is."""
    _, body = await sent(NO_IDENTITY)
    assert (json.loads(body)["type"], json.loads(body)["title"]) == ("about:blank", "Unauthorized")
    _, body = await sent(NO_IDENTITY, statuses={"no_identity": 403})
    assert json.loads(body)["title"] == "Forbidden"


async def test_types_may_lead_to_pages_of_the_api() -> None:
    """Those of the draft stay what they are."""
    prefix = "https://example.org/problems/"
    _, body = await sent(UNKNOWN_USER, types_prefix=prefix)
    assert json.loads(body)["type"] == f"{prefix}unknown_user"
    _, body = await sent(UNAVAILABLE, types_prefix=prefix)
    assert json.loads(body)["type"].startswith("https://iana.org/")


@pytest.mark.parametrize(
    "options",
    [
        {"statuses": {"out_of_cash": 402}},
        {"statuses": {"out_of_credits": 200}},
        {"statuses": {"out_of_credits": 600}},
        {"statuses": {"out_of_credits": "402"}},
        {"statuses": {"out_of_credits": 402.0}},
        {"upgrade_url": ""},
        {"upgrade_url": "/plans"},
        {"upgrade_url": "javascript:alert(1)"},
        {"upgrade_url": "https://"},
        {"upgrade_url": "https://example.org/\r\nset-cookie: x"},
        {"upgrade_url": 'https://example.org/">'},
        {"types_prefix": ""},
        {"types_prefix": "problems#"},
        {"types_prefix": "https://example.org/two words#"},
    ],
    ids=str,
)
def test_options_that_cannot_work_are_refused_at_the_start(options: dict[str, Any]) -> None:
    """A typo must not wait for the first refusal, and nothing may break out of a field."""
    with pytest.raises(ConfigurationError):
        ProblemOptions(**options)


def test_options_do_not_change_behind_our_back() -> None:
    """The mapping is a copy, and read only."""
    statuses = {"out_of_credits": 429}
    options = ProblemOptions(statuses=statuses)
    statuses["out_of_credits"] = 200
    assert options.statuses == {"out_of_credits": 429}
    with pytest.raises(TypeError):
        options.statuses["backlog"] = 200  # type: ignore[index]
