"""What the machine draws: users, amounts, rules and times that meet often."""

from hypothesis import strategies as st

from faregate.domain.idempotency import IdempotencyKey
from faregate.domain.period import Period, PeriodKind
from faregate.domain.policy import Allowance
from faregate.domain.transaction import CREDITS_MAX, TransactionType
from scenarios.limits import FAST, SLOW, SMALL_WINDOW
from spec.steps import (
    BY_KEY,
    CARRYING,
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    PER_SECOND,
    TEN,
    TWO,
    WINDOW,
    Send,
    Step,
    charge,
    hold,
)

KEY_LIFETIME_MS = 2 * HOUR_MS

USER = st.sampled_from(["ann", "ann", "bob", "cid"])
COST = st.sampled_from([1, 2, 3, 1, 2, 4, 5, 8, 0, -1])
AMOUNT = st.sampled_from([1, 2, 3, 5, 8, 0, CREDITS_MAX - 8])
CHANGE = st.sampled_from([-1, 1, -2, 3, -6, 0, CREDITS_MAX - 8, -CREDITS_MAX])
#: What a balance lacks, and how it is told: by the balance itself, or by a record.
DRIFT = st.sampled_from([-3, -1, 2, 9])
RECORD = st.sampled_from([None, TransactionType.ADMIN_ADJUSTMENT])
PART = st.sampled_from([None, 1, 2, 3, None, 4, 0])
PERIODS = st.sampled_from(
    [
        *(TEN, TEN, TEN, TWO, CARRYING),
        Allowance(amount=3, period=Period(kind=PeriodKind.DAY), rollover_max=1),
        Allowance(amount=4, period=Period(kind=PeriodKind.MONTH)),
    ]
)
ALLOWANCE = st.one_of(st.none(), PERIODS)
#: Some have a name in common, as the limits of a user whose policy changes.
LIMITS = st.sampled_from(
    [
        *[(PER_SECOND,), (WINDOW, PER_SECOND), (BY_KEY, WINDOW), ()],
        *[(SLOW,), (FAST,), (SMALL_WINDOW, FAST)],
    ]
)
RESPONSE = st.sampled_from([b"", b"served"])
LIMIT_KEY = st.sampled_from(["", "one", "two"])
KEY = st.builds(
    IdempotencyKey,
    key=st.sampled_from(["k1", "k2"]),
    fingerprint=st.sampled_from(["", "other"]),
    lifetime_ms=st.just(KEY_LIFETIME_MS),
    lease_ms=st.just(MINUTE_MS),
    keys_max=st.sampled_from([1, 100]),
)
TTL_MS = st.sampled_from([100, 1_000, MINUTE_MS, MINUTE_MS, HOUR_MS, DAY_MS, 99])
OPEN_MAX = st.sampled_from([1, 3, 1_000])
OVERDRAFT = st.integers(0, 2)
POLICY = st.sampled_from(["tried", "other"])
#: When a call that is voided was asked for: right now, or long ago.
ASKED_IN_MS = st.sampled_from([-1_000, -HOUR_MS, 0])
DEADLINE_IN_MS = st.sampled_from([-1, -1, 0])
#: Of a void, which comes a millisecond later.
VOID_DEADLINE_IN_MS = st.sampled_from([0, 0, 1])
TIMES = st.sampled_from([1, 2, 3])
SEND = st.sampled_from([Send.FRESH, Send.FRESH, Send.RETRY, Send.GIVEN])
#: How old an id is, minted or given: at the bounds, and within them.
AGE_MS = st.sampled_from([-250, -251, 0, 100, 30_000, 30_001, -5_000, -5_001, 60_000, 60_001])
BACK_MS = st.sampled_from([1, 250, 251, 5_000])
#: What becomes of a request that was taken over, and by which of the two attempts.
AFTER_TAKEOVER = st.sampled_from(
    [
        *[("complete", "first"), ("complete", "second"), ("void", "first"), ("void", "second")],
        *[("refund", "first"), ("refund", "second"), ("cancel", "first"), ("settle", "second")],
    ]
)
BATCH_SIZE = st.integers(1, 5)
WAIT_MS = st.sampled_from([1, 100, 250, 500, 1_000, 10_000, 30_000, 2 * MINUTE_MS])
#: What lasts so long: a period of a limit, a lease, the window of an id, the stay of a record that
#: is a row, a period of an allowance, a key, what a backlog may be, and what is remembered.
LASTS_MS = st.sampled_from(
    [1_000, 1_000, MINUTE_MS, MINUTE_MS, 90_000, HOUR_MS, KEY_LIFETIME_MS, 23 * HOUR_MS, DAY_MS]
)
#: Right before that is over, when it is, and right after.
OFF_MS = st.integers(-1, 1)
AFTER_MS = st.sampled_from([1, HOUR_MS, HOUR_MS])


def batch(names: list[str], drawn: list[tuple[str, int, str, IdempotencyKey]]) -> tuple[Step, ...]:
    """Return spends for one call. A user has one at most that a call may hold only once."""
    spends, alone = [], set()
    for name, (user, cost, kind, key) in zip(names, drawn, strict=True):
        plain = charge(name, cost, user=user, send=Send.FRESH)
        others = {
            "allowance": charge(name, cost, user=user, allowance=TEN, send=Send.FRESH),
            "limits": charge(name, cost, user=user, limits=(PER_SECOND,), send=Send.FRESH),
            "hold": hold(name, cost, user=user, send=Send.FRESH),
        }
        lonely = {
            "key": charge(name, cost, user=user, key=key, send=Send.FRESH),
            "window": charge(name, cost, user=user, limits=(WINDOW,), send=Send.FRESH),
            "retry": charge(name, cost, user=user, send=Send.RETRY),
            "given": charge(name, cost, user=user, send=Send.GIVEN),
        }
        if kind in lonely and user not in alone:
            alone.add(user)
            spends.append(lonely[kind])
        else:
            spends.append(others.get(kind, plain))
    return tuple(spends)


SPENDS = st.lists(
    st.tuples(
        USER,
        st.sampled_from([1, 1, 2, 3, 0, 6]),
        st.sampled_from(
            ["plain", "plain", "allowance", "limits", "hold", "key", "window", "retry", "given"]
        ),
        KEY,
    ),
    min_size=2,
    max_size=4,
)
