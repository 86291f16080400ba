"""The Idempotency-Key field, and responses that are kept for retries."""

import pytest
from starlette.types import Message, Scope

from asgi_client import http_scope
from faregate.asgi.idempotency import (
    MalformedIdempotencyKeyError,
    ResponseRecorder,
    SavedResponse,
    read_idempotency_key,
)


def scope_with(*values: bytes) -> Scope:
    return http_scope("POST", [(b"idempotency-key", value) for value in values])


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (b'"8e03978e-40d5-43dd-bc93-6894a57f9324"', "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        (b"8e03978e-40d5", "8e03978e-40d5"),
        (b'  "with space"  ', "with space"),
        (rb'"a \"quoted\" \\ key"', r'a "quoted" \ key'),
        (b'"' + b"k" * 255 + b'"', "k" * 255),
        (b'"' + rb"\"" * 255 + b'"', '"' * 255),
    ],
)
def test_a_key_is_a_string_of_structured_fields_or_bare(value: bytes, key: str) -> None:
    """Quoted and bare are the same key."""
    assert read_idempotency_key(scope_with(value)) == key


@pytest.mark.parametrize(
    "values",
    [
        (b"",),
        (b'""',),
        (b'"open',),
        (b'"a"b"',),
        (rb'"a\n"',),
        (b"two words",),
        (b'"\xc3\xa9"',),
        (b'"a\x00b"',),
        (b'"a\x7fb"',),
        (b"k" * 256,),
        (b'"a";q=1',),
        (b'"a"', b'"a"'),
        (b'"a"', b'"b"'),
    ],
    ids=repr,
)
def test_an_invalid_text_is_no_key(values: tuple[bytes, ...]) -> None:
    """Nothing is guessed: of two fields neither counts."""
    with pytest.raises(MalformedIdempotencyKeyError):
        read_idempotency_key(scope_with(*values))


@pytest.mark.parametrize(
    "value", [b'"' + b"k" * 1_000_000, b"k" * 1_000_000, b'"' + rb"\"" * 256 + b'"'], ids=len
)
def test_a_field_that_is_too_long_is_not_parsed(
    value: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However large it is, it costs nothing."""
    monkeypatch.setattr("faregate.asgi.idempotency._QUOTED", None)
    monkeypatch.setattr("faregate.asgi.idempotency._BARE", None)
    with pytest.raises(MalformedIdempotencyKeyError):
        read_idempotency_key(scope_with(value))


@pytest.mark.parametrize(
    ("coding", "accepted", "suits"),
    [
        (None, None, True),
        (b"identity", None, True),
        (b"gzip", b"br, gzip;q=0.5", True),
        (b"x-gzip", b"GZIP", True),
        (b"gzip", b"*", True),
        (b"gzip, br", b"gzip, br;q=1.0", True),
        (b"gzip", None, False),
        (b"gzip", b"", False),
        (b"gzip", b"identity", False),
        (b"gzip", b"br", False),
        (b"gzip", b"gzip; q=0", False),
        (b"gzip", b"gzip;q=0.000, *", False),
        (b"gzip", b"*;q=0", False),
        (b"gzip, br", b"gzip", False),
    ],
)
def test_a_response_suits_a_client_that_accepts_its_codings(
    coding: bytes | None, accepted: bytes | None, suits: object
) -> None:
    """Each of them, by RFC 9110, section 12.5.3."""
    headers = [] if coding is None else [(b"Content-Encoding", coding)]
    encoded = ResponseRecorder(200, headers, 1_000).encoded()
    saved = SavedResponse.decode(encoded, decision=None)  # type: ignore[arg-type]
    fields = [] if accepted is None else [(b"accept-encoding", accepted)]
    assert saved.is_acceptable(http_scope(headers=fields)) == suits


def test_a_request_without_the_field_has_no_key() -> None:
    """None is not the empty key."""
    assert read_idempotency_key(http_scope()) is None


async def test_a_response_is_saved_without_the_fields_that_are_made_anew() -> None:
    """Its fields of the day are not sent again; it says that it is one."""
    headers = [(b"content-type", b"text/plain"), (b"Date", b"then"), (b"ratelimit", b'"a";r=1')]
    recorder = ResponseRecorder(201, [*headers, (b"x-caf\xe9", b"\xff")], 1_000)
    for chunk in (b"one ", b"\n", b"two"):
        recorder.add(chunk)
    decoded = SavedResponse.decode(recorder.encoded(), decision=None)  # type: ignore[arg-type]
    assert (decoded.status, decoded.body) == (201, b"one \ntwo")
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await decoded.send(send, [(b"ratelimit", b'"a";r=0')])
    assert sent[0]["headers"] == [
        (b"content-type", b"text/plain"),
        (b"x-caf\xe9", b"\xff"),
        (b"idempotent-replayed", b"true"),
        (b"ratelimit", b'"a";r=0'),
    ]
    assert sent[1]["body"] == b"one \ntwo"


def test_a_response_that_is_too_large_is_not_kept() -> None:
    """Not even a part of it, and no more of it is remembered than the bound."""
    head = len(ResponseRecorder(200, [], 10_000).encoded())
    recorder = ResponseRecorder(200, [], head + 3)
    recorder.add(b"abc")
    assert recorder.encoded().endswith(b"\nabc")
    recorder.add(b"d")
    recorder.add(b"e" * 1_000_000)
    assert recorder.encoded() == b""
    assert recorder._chunks == []
