"""The RateLimit fields: what they say, and what cannot be said with them."""

import pytest

from faregate.asgi.headers import RateLimitFields, printable, sf_string, with_fields
from faregate.domain.errors import ConfigurationError
from faregate.domain.transaction import CREDITS_MAX

#: The largest Integer of RFC 9651, section 3.3.1.
SF_INTEGER_MAX = 999_999_999_999_999


def test_both_fields_name_the_policy() -> None:
    """A policy item carries the quota, a limit item what is left, under the same name."""
    assert RateLimitFields("credits").fields(quota=3, available=2) == [
        (b"ratelimit-policy", b'"credits";q=3'),
        (b"ratelimit", b'"credits";r=2'),
    ]


def test_a_balance_below_zero_is_shown_as_zero() -> None:
    """The draft has non-negative integers only, and a debt buys nothing either."""
    assert RateLimitFields("credits").fields(quota=0, available=-7) == [
        (b"ratelimit-policy", b'"credits";q=0'),
        (b"ratelimit", b'"credits";r=0'),
    ]


def test_bought_credits_may_exceed_the_quota() -> None:
    """The quota stays what the policy gives, however much a user has bought."""
    _, limit = RateLimitFields("credits").fields(quota=3, available=CREDITS_MAX)
    assert limit == (b"ratelimit", b'"credits";r=2147483647')
    assert CREDITS_MAX < SF_INTEGER_MAX


def test_quotes_and_backslashes_in_a_name_are_escaped() -> None:
    """A name is a String of structured fields, which escapes exactly these two."""
    assert sf_string('a "b" \\ c') == '"a \\"b\\" \\\\ c"'
    policy, _ = RateLimitFields('my "plan"').fields(quota=1, available=1)
    assert policy == (b"ratelimit-policy", b'"my \\"plan\\"";q=1')


@pytest.mark.parametrize("name", ["", "crédits", "a\r\nset-cookie: x", "a\x7f", "\t", None, 7])
def test_a_name_that_no_field_can_carry_is_refused(name: object) -> None:
    """Line breaks would inject a field, and other characters have no place in a String."""
    with pytest.raises(ConfigurationError):
        RateLimitFields(name)  # type: ignore[arg-type]


def test_all_printable_characters_can_be_part_of_a_field() -> None:
    """From the space to the tilde, nothing is refused that may be said."""
    text = "".join(map(chr, range(0x20, 0x7F)))
    assert printable(text, "a text") == text


def test_the_apps_own_headers_stay_as_they_are() -> None:
    """The fields come last, in a list of its own; the app may use its list again."""
    own = [(b"x-app", b"1"), (b"ratelimit", b'"burst";r=9')]
    fields = RateLimitFields("credits").fields(quota=3, available=2)
    assert with_fields(own, fields) == [*own, *fields]
    assert len(own) == 2
    assert with_fields((), fields) == fields
