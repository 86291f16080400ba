"""The RateLimit fields: what they say, and what cannot be said with them."""

from pathlib import Path
from typing import Any

import http_sf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisions import BURST, DAILY, MINUTE, NOW_MS, ONCE, REFUSALS, decision, states
from faregate.asgi.headers import DRAFT, check_names, printable, rate_limit_fields
from faregate.asgi.refusals import problem_of
from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import ConfigurationError
from faregate.domain.limit import LimitKind, LimitState, RateLimit
from faregate.domain.period import Period, PeriodKind
from faregate.domain.policy import Allowance, CreditPolicy, PolicySet
from faregate.domain.transaction import CREDITS_MAX

DAY_MS = 86_400_000
#: The largest Integer of RFC 9651, section 3.3.1.
SF_INTEGER_MAX = 999_999_999_999_999

Items = dict[str, dict[str, int]]


def parsed(answer: Decision) -> tuple[Items, Items]:
    """Both fields as an independent parser reads them: the parameters of each item by its name."""
    fields = dict(rate_limit_fields(answer))
    assert set(fields) == {b"ratelimit-policy", b"ratelimit"}
    return items(fields[b"ratelimit-policy"]), items(fields[b"ratelimit"])


def items(value: bytes) -> Items:
    """A list of Strings with Integers as parameters, none twice."""
    read: list[tuple[Any, dict[str, Any]]] = http_sf.parse(value, tltype="list")  # type: ignore[assignment]
    assert len({name for name, _ in read}) == len(read)
    for name, parameters in read:
        assert type(name) is str
        assert all(type(number) is int for number in parameters.values())
        assert all(0 <= number <= SF_INTEGER_MAX for number in parameters.values())
    return dict(read)


def test_both_fields_name_the_policy() -> None:
    """A policy item carries the quota, a limit item what is left, under the same name."""
    assert rate_limit_fields(decision()) == [
        (b"ratelimit-policy", b'"credits";q=3'),
        (b"ratelimit", b'"credits";r=2'),
    ]


def test_credits_and_each_limit_have_an_item() -> None:
    """Periods are windows in whole seconds; times are those until there is more."""
    answer = decision(
        policy=DAILY,
        credits=40,
        resets_at_ms=NOW_MS + 3_600_000,
        limits=states((9, 100), (97, 31_001)),
    )
    assert parsed(answer) == (
        {
            "daily": {"q": 100, "w": 86_400},
            "burst": {"q": 10, "w": 1},
            "a minute": {"q": 100, "w": 60},
        },
        {
            "daily": {"r": 40, "t": 3_600},
            "burst": {"r": 9, "t": 1},
            "a minute": {"r": 97, "t": 32},
        },
    )


@pytest.mark.parametrize(
    ("period", "window_s"),
    [
        (Period(kind=PeriodKind.DAY), 86_400),
        (Period(kind=PeriodKind.WEEK), 604_800),
        (Period(kind=PeriodKind.MONTH), None),
        (Period(kind=PeriodKind.ROLLING, length_ms=90_000), 90),
        (Period(kind=PeriodKind.ROLLING, length_ms=1_001), 2),
    ],
    ids=str,
)
def test_a_period_of_fixed_length_is_a_window(period: Period, window_s: int | None) -> None:
    """A month has none: its length is another each time."""
    policy = CreditPolicy(allowance=Allowance(amount=5, period=period))
    quotas, _ = parsed(decision(policy=policy))
    expected = {"q": 5} if window_s is None else {"q": 5, "w": window_s}
    assert quotas == {"credits": expected}


def test_a_window_of_less_than_a_second_is_shown_as_one() -> None:
    """The draft has no fractions; the policy looks stricter than it is."""
    limit = RateLimit(name="quick", count=5, period_ms=200)
    policy = CreditPolicy(limits=(limit,))
    quotas, _ = parsed(decision(policy=policy, limits=(LimitState.of(limit, 4, 40),)))
    assert quotas["quick"] == {"q": 5, "w": 1}


def test_an_unused_limit_has_no_time() -> None:
    """There is nothing to wait for."""
    peek = decision(policy=DAILY, resets_at_ms=NOW_MS, limits=states((10, 0), (100, 0)))
    assert parsed(peek)[1] == {"daily": {"r": 2}, "burst": {"r": 10}, "a minute": {"r": 100}}


def test_a_balance_below_zero_is_shown_as_zero() -> None:
    """The draft has non-negative integers only, and a debt buys nothing either."""
    assert parsed(decision(credits=-7)) == ({"credits": {"q": 3}}, {"credits": {"r": 0}})


def test_bought_credits_may_exceed_the_quota() -> None:
    """The quota stays what the policy gives, however much a user has bought."""
    assert parsed(decision(credits=CREDITS_MAX))[1] == {"credits": {"r": CREDITS_MAX}}


@pytest.mark.parametrize(
    "answer",
    [
        decision(policy=CreditPolicy(name="staff", is_unlimited=True)),
        decision(policy=CreditPolicy(is_shadow=True), shadow=Verdict.OUT_OF_CREDITS),
        decision(policy=CreditPolicy(is_shadow=True), shadow=Verdict.UNDECIDED, credits=0),
        decision(Verdict.UNKNOWN_USER, credits=0),
        decision(Verdict.OVERLOADED, credits=0, decided_at_ms=0),
        decision(credits=0, journaled=True, decided_at_ms=0),
        decision(policy=None),
    ],
    ids=[
        *("unlimited", "observed", "not even observed", "unknown user"),
        *("overload", "journaled", "no policy"),
    ],
)
def test_an_unlimited_user_gets_no_rate_limit_fields(answer: Decision) -> None:
    """Clients must not hold back for numbers that refuse nobody."""
    assert rate_limit_fields(answer, legacy=True) == []


@pytest.mark.parametrize("name", REFUSALS)
def test_no_client_is_asked_to_retry_before_there_is_more(name: str) -> None:
    """Retry-After lies before no `t` of the same response, as the draft asks in its section 6."""
    refusal = REFUSALS[name]
    problem = problem_of(refusal)
    left = parsed(refusal)[1] if rate_limit_fields(refusal) else {}
    if problem.retry_after_s is not None:
        times = [state["t"] for state in left.values() if "t" in state]
        assert problem.retry_after_s >= max(times, default=0)
    violated = problem.extensions.get("violated-policies", [])
    assert isinstance(violated, list)
    assert set(violated) <= set(left)


def test_a_refusal_shows_times_only_of_refusing_policies() -> None:
    """Both limits refuse, so that the later of them counts; the credits suffice."""
    refusal = REFUSALS["two limits refuse"]
    assert parsed(refusal)[1] == {
        "daily": {"r": 2},
        "burst": {"r": 0, "t": 1},
        "a minute": {"r": 0, "t": 30},
    }
    assert problem_of(refusal).retry_after_s == 30


LIMITS = st.builds(
    LimitState.of,
    st.builds(
        RateLimit,
        name=st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1),
        count=st.integers(1, 10_000),
        period_ms=st.integers(10_000, 31 * DAY_MS),
        kind=st.sampled_from(LimitKind),
    ),
    st.integers(0, 1_000_000_000),
    st.integers(0, 31 * DAY_MS),
)


@given(limits=st.lists(LIMITS, max_size=16, unique_by=lambda state: state.name), credits_=st.data())
def test_all_fields_parse_to_the_same_values(
    limits: list[LimitState], credits_: st.DataObject
) -> None:
    """Names of all printable characters, and numbers up to their bounds."""
    balance = credits_.draw(st.integers(-CREDITS_MAX, CREDITS_MAX))
    policy = CreditPolicy(name='\\"the credits"\\')
    quotas, left = parsed(decision(policy=policy, credits=balance, limits=tuple(limits)))
    names = [policy.name, *(state.name for state in limits)]
    assert list(quotas) == list(left) == list(dict.fromkeys(names))
    assert left[policy.name]["r"] == max(0, balance) or policy.name in names[1:]
    for state in limits:
        assert left[state.name]["r"] == state.remaining
        assert quotas[state.name]["q"] == state.count


def test_only_checked_limits_are_shown() -> None:
    """All of them for a request that counts, none for a retry, some where the ledger says so."""
    burst, minute = states((9, 100), (97, 31_001))
    for limits in ((burst, minute), (minute,), ()):
        quotas, left = parsed(decision(policy=DAILY, limits=limits))
        assert list(quotas) == list(left) == ["daily", *(state.name for state in limits)]


def test_two_policies_of_one_name_are_distinguished() -> None:
    """What is said of a policy each time is remembered for that very policy."""
    for size in (5, 7, 5):
        quotas, _ = parsed(decision(policy=CreditPolicy(starting_credits=size)))
        assert quotas == {"credits": {"q": size}}


def test_a_changed_balance_is_reported_with_its_current_value() -> None:
    """The times stay those of the decision."""
    answer = decision(policy=DAILY, credits=40, resets_at_ms=NOW_MS + 3_600_000)
    fields = dict(rate_limit_fields(answer, 41))
    assert items(fields[b"ratelimit"]) == {"daily": {"r": 41, "t": 3_600}}


def legacy(answer: Decision) -> dict[str, str]:
    """The fields of old, by their names without the prefix."""
    fields = rate_limit_fields(answer, legacy=True)
    assert [name for name, _ in fields[:2]] == [b"ratelimit-policy", b"ratelimit"]
    prefix = "x-ratelimit-"
    return {name.decode().removeprefix(prefix): value.decode() for name, value in fields[2:]}


def test_legacy_fields_describe_the_policy_with_the_least_left() -> None:
    """They have room for one policy, and `reset` is a moment: now and 31 seconds, rounded up."""
    answer = decision(policy=DAILY, credits=40, limits=states((9, 100), (3, 31_000)))
    resets_at_s = str((NOW_MS + 31_000) // 1_000 + 1)
    assert legacy(answer) == {"limit": "100", "remaining": "3", "reset": resets_at_s}


def test_legacy_fields_describe_the_refusing_policy() -> None:
    """Though less is left of another policy."""
    refusal = decision(
        Verdict.OUT_OF_CREDITS,
        policy=DAILY,
        amount=-9,
        credits=5,
        resets_at_ms=1_795_478_400_000,
        limits=states((1, 900), (40, 59_999)),
    )
    assert legacy(refusal) == {"limit": "100", "remaining": "5", "reset": "1795478400"}


def test_legacy_fields_leave_out_unknown_values() -> None:
    """Credits that never come back have no reset."""
    assert legacy(decision()) == {"limit": "3", "remaining": "2"}


@pytest.mark.parametrize("name", ["", "crédits", "a\r\nset-cookie: x", "a\x7f", "\t", None, 7])
def test_a_text_that_no_field_can_carry_is_refused(name: object) -> None:
    """Line breaks would inject a field, and other characters have no place in a String."""
    with pytest.raises(ConfigurationError):
        printable(name, "a text")


def test_all_printable_characters_can_be_part_of_a_field() -> None:
    """From the space to the tilde, nothing is refused that may be said."""
    text = "".join(map(chr, range(0x20, 0x7F)))
    assert printable(text, "a text") == text


@pytest.mark.parametrize(
    "policy",
    [
        CreditPolicy(name="crédits"),
        CreditPolicy(limits=(BURST, RateLimit(name="a\nb", count=1, period_ms=1))),
        CreditPolicy(name="burst", limits=(BURST,)),
    ],
    ids=["policy", "limit", "both alike"],
)
def test_names_that_fields_cannot_carry_are_found_in_any_tier(policy: CreditPolicy) -> None:
    """Before anybody is served, though few users may be of that tier."""
    with pytest.raises(ConfigurationError):
        check_names(PolicySet(tiers={"free": ONCE, "paid": policy}, default_tier="free"))


def test_tiers_may_name_their_limits_alike() -> None:
    """No response names those of two tiers."""
    check_names(
        PolicySet(
            tiers={"free": DAILY, "paid": CreditPolicy(name="paid", limits=(BURST, MINUTE))},
            default_tier="free",
        )
    )


def test_the_docs_name_the_draft_that_is_followed() -> None:
    """Drafts change; a client must know which one it reads."""
    root = Path(__file__).resolve().parents[2]
    assert DRAFT in (root / "docs/mount.md").read_text("utf-8")
