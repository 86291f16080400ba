"""Attempts: in whatever order those with one id arrive, one of them is charged at most."""

from faregate.domain.attempt import Event
from faregate.domain.decision import Verdict
from faregate.domain.errors import AmountError, TransactionIdError
from faregate.domain.request import VoidOutcome
from faregate.domain.transaction import CREDITS_MAX
from faregate.domain.windows import ATTEMPT_MS_MAX, KEYLESS_MS_MAX, LOOK_BACK_MS, RETENTION_MS
from spec.steps import (
    MINUTE_MS,
    PER_SECOND,
    TEN,
    Step,
    add,
    charge,
    drain,
    fill,
    fresh,
    given,
    hold,
    key,
    refund,
    retry,
    void,
    wait,
)

OUT, VOIDED = Verdict.OUT_OF_CREDITS, Verdict.VOIDED
#: What some charges of a scenario have left.
LEFT = (("a", 4), ("b", 3), ("c", 2))

ATTEMPTS: dict[str, list[Step]] = {
    "a first attempt that arrives after its retry charges nothing": [
        retry(charge("a", 2, credits=3)),
        charge("b", 1, credits=2),
        fresh(charge("a", 2, credits=3, repeated=True)),
        charge("c", 1, credits=1),
    ],
    "a first attempt that arrives after its void charges nothing": [
        void("a", answer=VoidOutcome.REFUSED),
        fresh(charge("a", 2, answer=VOIDED, credits=5)),
        retry(charge("a", 2, answer=VOIDED, credits=5)),
    ],
    "a first attempt that arrives after its retry was refused is refused, too": [
        retry(charge("a", 6, answer=OUT, credits=5)),
        add("more", 5, credits=10),
        fresh(charge("a", 6, answer=VOIDED, credits=10)),
        retry(charge("a", 6, answer=VOIDED, credits=10)),
        charge("b", 10, credits=0),
    ],
    "a first attempt that is refused binds no retry": [
        fresh(charge("a", 6, answer=OUT)),
        add("more", 1, credits=6),
        retry(charge("a", 6, credits=0)),
    ],
    "each refusal of a retry binds its first attempt": [
        *[charge(f"l{n}", 1, limits=(PER_SECOND,), credits=4 - n) for n in range(2)],
        hold("h", 1, credits=2),
        charge("k", 1, key=key("k", keys_max=1), credits=1),
        retry(charge("late", 1, deadline_in_ms=-1, answer=Event.LATE)),
        retry(charge("limited", 1, limits=(PER_SECOND,), answer=Verdict.RATE_LIMITED)),
        retry(charge("keys", 1, key=key("l", keys_max=1), answer=Verdict.TOO_MANY_KEYS)),
        retry(hold("holds", 1, open_max=1, answer=Verdict.TOO_MANY_HOLDS)),
        retry(charge("held", 2, answer=Verdict.CREDITS_HELD)),
        retry(charge("broke", 9, answer=OUT)),
        *[
            fresh(charge(name, 1, answer=VOIDED))
            for name in ("late", "limited", "keys", "held", "broke")
        ],
        fresh(hold("holds", 1, answer=VOIDED)),
        add("more", CREDITS_MAX - 1, credits=CREDITS_MAX),
        retry(charge("over", 1, allowance=TEN, answer=AmountError)),
        fill(),
        retry(charge("waits", 1, answer=Verdict.BACKLOG)),
        drain(),
        fresh(charge("over", 1, answer=VOIDED)),
        fresh(charge("waits", 1, answer=VOIDED)),
    ],
    "a retry that only peeks binds nobody": [
        retry(charge("a", 0, credits=5)),
        fresh(charge("a", 0, credits=5)),
    ],
    "an older attempt of the same user is not taken for the one that was named": [
        wait(MINUTE_MS),
        retry(charge("a", 1, credits=4)),
        charge("b", 1, age_ms=100, credits=3),
        void("c", age_ms=100, answer=VoidOutcome.REFUSED),
        charge("d", 1, age_ms=100, credits=2),
        fresh(charge("c", 1, answer=VOIDED)),
    ],
    "a minted id that comes back as the caller's is known": [
        charge("a", 2, credits=3),
        given(charge("a", 2, credits=3, repeated=True)),
        given(charge("b", 2, credits=1)),
        fresh(charge("b", 2, credits=1, repeated=True)),
        charge("ahead", 1, age_ms=-LOOK_BACK_MS, credits=0),
        given(charge("ahead", 1, credits=0, repeated=True)),
    ],
    "a minted id lies a quarter of a second ahead at most": [
        charge("a", 1, age_ms=-LOOK_BACK_MS - 1, answer=Event.AHEAD),
        wait(1),
        retry(charge("a", 1, credits=4)),
        retry(charge("a", 1, credits=4, repeated=True)),
        charge("b", 1, age_ms=-LOOK_BACK_MS, credits=3),
        charge("b", 1, credits=3, repeated=True),
        wait(LOOK_BACK_MS),
        charge("b", 1, credits=3, repeated=True),
        void("b", answer=VoidOutcome.REFUNDED),
        retry(charge("c", 1, age_ms=-LOOK_BACK_MS - 1, answer=Event.AHEAD)),
    ],
    "a minted attempt lasts half a minute, and is known for longer": [
        charge("a", 1, credits=4),
        wait(ATTEMPT_MS_MAX),
        charge("b", 1, age_ms=ATTEMPT_MS_MAX, credits=3),
        charge("c", 1, age_ms=ATTEMPT_MS_MAX + 1, answer=Event.LATE),
        wait(1),
        charge("a", 1, credits=4, repeated=True),
        retry(charge("d", 1, age_ms=ATTEMPT_MS_MAX + 1, answer=Event.LATE)),
    ],
    "an attempt that is charged long after its id was minted is known all the time": [
        charge("a", 1, age_ms=KEYLESS_MS_MAX, credits=4),
        charge("b", 1, age_ms=KEYLESS_MS_MAX + 1, credits=3),
        charge("c", 1, age_ms=ATTEMPT_MS_MAX, credits=2),
        *[retry(charge(name, 1, credits=left, repeated=True)) for name, left in LEFT],
        *[given(charge(name, 1, credits=left, repeated=True)) for name, left in LEFT],
        wait(RETENTION_MS + 1),
        *[retry(charge(name, 1, credits=left, repeated=True)) for name, left in LEFT],
        void("b", answer=VoidOutcome.REFUNDED, asked_in_ms=-RETENTION_MS - 2),
        void("c", answer=VoidOutcome.REFUNDED, asked_in_ms=-RETENTION_MS - 2),
        refund("r", of="a", credits=5),
    ],
    "a retry whose record may be gone is refused": [
        charge("a", 1, credits=4),
        drain(),
        wait(RETENTION_MS - LOOK_BACK_MS),
        drain(),
        charge("a", 1, credits=4, repeated=True),
        wait(1),
        charge("b", 1, credits=3),
        drain(),
        charge("a", 1, answer=Event.LATE),
        given(charge("a", 1, answer=TransactionIdError)),
        wait(LOOK_BACK_MS),
        drain(),
        void("a", asked_in_ms=-MINUTE_MS * 2, answer=VoidOutcome.FORGOTTEN),
        refund("r", of="a", credits=4),
        charge("b", 1, credits=3, repeated=True),
    ],
    "a void spares a charge of which a retry with the caller's id was told": [
        given(charge("a", 2, credits=3)),
        wait(2_000),
        given(charge("a", 2, credits=3, repeated=True)),
        void("a", asked_in_ms=-2_500, deadline_in_ms=-1_500, answer=VoidOutcome.KEPT),
        void("a", asked_in_ms=-2_500, deadline_in_ms=-1_500, answer=VoidOutcome.KEPT),
        given(charge("a", 2, credits=3, repeated=True)),
    ],
    "a charge of which all callers of its id were told in vain is given back": [
        given(charge("a", 2, credits=3)),
        wait(2_000),
        given(charge("a", 2, deadline_in_ms=-500, credits=3, repeated=True)),
        void("a", asked_in_ms=-2_500, deadline_in_ms=-1_500, answer=VoidOutcome.KEPT),
        void("a", asked_in_ms=-900, deadline_in_ms=-500, answer=VoidOutcome.REFUNDED),
        void("a", asked_in_ms=-900, deadline_in_ms=-500, answer=VoidOutcome.REFUNDED),
        charge("b", 5, credits=0),
    ],
    "a void spares a hold of which a retry with the caller's id was told": [
        given(hold("h", 2, credits=3)),
        wait(2_000),
        given(hold("h", 2, credits=3, repeated=True)),
        void("h", asked_in_ms=-2_500, deadline_in_ms=-1_500, answer=VoidOutcome.KEPT),
        void("h", asked_in_ms=-500, answer=VoidOutcome.REFUNDED),
        charge("b", 5, credits=0),
    ],
    "a charge of which a retry was told is spared after its record is gone": [
        given(charge("a", 2, credits=3)),
        wait(2_000),
        given(charge("a", 2, credits=3, repeated=True)),
        drain(),
        wait(RETENTION_MS),
        drain(),
        void(
            "a",
            asked_in_ms=-RETENTION_MS - 2_500,
            deadline_in_ms=-RETENTION_MS - 1_500,
            answer=VoidOutcome.KEPT,
        ),
    ],
    "a retry answers as the first attempt was answered, though the user has another policy": [
        charge("a", 1, allowance=TEN, credits=14, left=9),
        charge("b", 1, credits=13, left=8),
        charge("a", 1, credits=14, left=9, repeated=True, resets_at_ms=None),
    ],
}
