"""RateLimit fields that an app passes on from its upstream."""

from asgi_client import World, answers, call
from decisions import decision
from faregate.asgi.headers import rate_limit_fields, with_fields

#: As an app passes them on from its upstream, beside a field of its own.
PASSED_ON = [
    (b"x-app", b"1"),
    (b"ratelimit", b'"theirs";r=9'),
    (b"RateLimit-Policy", b'"theirs";q=9'),
    (b"ratelimit-remaining", b"9"),
    (b"x-ratelimit-remaining", b"9"),
    (b"X-RateLimit-Reset-Tokens", b"9"),
    (b"x-rate-limit-limit", b"9"),
]


def test_fields_of_an_upstream_are_replaced() -> None:
    """Each name that the gate sends stands for its own numbers; other names are the app's."""
    own, all_own = rate_limit_fields(decision()), rate_limit_fields(decision(), legacy=True)
    assert with_fields(PASSED_ON, own) == [PASSED_ON[0], *PASSED_ON[4:], *own]
    assert with_fields(PASSED_ON, all_own, legacy=True) == [PASSED_ON[0], *all_own]


def test_without_fields_of_the_gate_those_of_the_app_stay() -> None:
    """Nothing bounds the user here, so whatever the app tells of is another limit."""
    assert with_fields(iter(PASSED_ON), [], legacy=True) == PASSED_ON


async def test_fields_that_an_app_passes_on_are_sent_once() -> None:
    """A client that sees a name twice would believe either."""
    answer = await call(World().around(answers(200, headers=PASSED_ON), legacy_fields=True))
    assert answer.header(b"ratelimit") == b'"credits";r=2'
    assert answer.header(b"x-ratelimit-remaining") == b"2"
    assert answer.header(b"x-app") == b"1"
