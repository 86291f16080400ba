"""What the machine draws: users, amounts, rules and times that meet often."""

from hypothesis import strategies as st

from faregate.domain.idempotency import IdempotencyKey
from faregate.domain.period import Period, PeriodKind
from faregate.domain.policy import Allowance
from faregate.domain.transaction import CREDITS_MAX
from spec.steps import BY_KEY, CARRYING, DAY_MS, HOUR_MS, MINUTE_MS, PER_SECOND, TEN, TWO, WINDOW

KEY_LIFETIME_MS = 2 * HOUR_MS

USER = st.sampled_from(["ann", "ann", "bob", "cid"])
COST = st.sampled_from([1, 2, 3, 1, 2, 4, 5, 8, 0, -1])
AMOUNT = st.sampled_from([1, 2, 3, 5, 8, 0, CREDITS_MAX - 8])
CHANGE = st.sampled_from([-1, 1, -2, 3, -6, 0, CREDITS_MAX - 8, -CREDITS_MAX])
PART = st.sampled_from([None, 1, 2, 3, None, 4, 0])
PERIODS = st.sampled_from(
    [
        TEN,
        TWO,
        CARRYING,
        Allowance(amount=3, period=Period(kind=PeriodKind.DAY), rollover_max=1),
        Allowance(amount=4, period=Period(kind=PeriodKind.MONTH)),
    ]
)
ALLOWANCE = st.one_of(st.none(), PERIODS)
LIMITS = st.sampled_from([(PER_SECOND,), (WINDOW, PER_SECOND), (BY_KEY, WINDOW), ()])
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
TIMES = st.sampled_from([1, 2, 3])
BATCH_SIZE = st.integers(1, 5)
WAIT_MS = st.sampled_from([1, 100, 250, 500, 1_000, 10_000, 30_000, 2 * MINUTE_MS])
#: What lasts so long: a period of a limit, a lease, the window of an id, the stay of a record that
#: is a row, a period of an allowance, a key, what a backlog may be, and what is remembered.
LASTS_MS = st.sampled_from(
    [1_000, 1_000, MINUTE_MS, MINUTE_MS, 90_000, HOUR_MS, KEY_LIFETIME_MS, 23 * HOUR_MS, DAY_MS]
)
#: Right before that is over, when it is, and right after.
OFF_MS = st.integers(-1, 1)
AFTER_MS = st.sampled_from([1, HOUR_MS])
