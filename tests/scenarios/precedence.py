"""Causes of refusal, one by one, so that any two of them can be made to hold at once.

For each operation: the step that is to be refused, and its causes in the order of the table in
docs/decisions.md. A cause is what comes before that step, what comes right before it, and what is
changed about it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from faregate.domain.transaction import CREDITS_MAX
from faregate.domain.windows import MINTED_ID_AHEAD_MS_MAX
from spec.steps import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    PER_SECOND,
    TEN,
    TWO,
    Done,
    Send,
    Step,
    add,
    adjust,
    cancel,
    charge,
    complete,
    extend,
    fill,
    hold,
    key,
    observe,
    read,
    refund,
    renew,
    settle,
    spoil,
    void,
    wait,
    wipe,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why a step is refused."""

    before: tuple[Step, ...] = ()
    last: tuple[Step, ...] = ()
    change: Mapping[str, object] = field(default_factory=dict)


def refused(final: Step, upper: Cause, lower: Cause) -> list[Step]:
    """Return the steps by which both hold, and the one that is refused."""
    changed = replace(final, **{**lower.change, **upper.change})  # type: ignore[arg-type]
    return [*upper.before, *lower.before, *lower.last, *upper.last, changed]


#: Holds always, and changes nothing: a cause with it alone stands for itself.
NOTHING = Cause()
#: More than the tests let a script look through.
MANY = tuple(charge(f"many {number}", 0, is_unlimited=True) for number in range(16))
UNINITIALISED = Cause(last=(wipe(),))
CORRUPT = Cause(last=(spoil(),))
UNKNOWN = Cause(change={"user": "nobody"})
FULL = Cause(before=(add("f", 1),), last=(fill(),))
LATE = Cause(change={"deadline_in_ms": -1})
EARLY = Cause(change={"deadline_in_ms": MINUTE_MS})
AHEAD = Cause(change={"age_ms": -MINTED_ID_AHEAD_MS_MAX - 1})
#: An id that was named is searched for.
UNRESOLVED = Cause(before=(complete("x", answer=Done.UNKNOWN), *MANY), change={"send": Send.RETRY})
#: Its id is made long before it is used.
STALE = Cause(
    before=(complete("x", answer=Done.UNKNOWN),),
    last=(wait(MINUTE_MS + 1),),
    change={"send": Send.GIVEN},
)
REUSED = Cause(
    before=(charge("k", 1, key=key("k")),), change={"key": key("k", fingerprint="other")}
)
KEYS_FULL = Cause(
    before=(charge("k1", 1, key=key("k1", keys_max=1)),), change={"key": key("k2", keys_max=1)}
)
LIMITED = Cause(
    before=tuple(charge(f"l{number}", 1, limits=(PER_SECOND,)) for number in range(2)),
    change={"limits": (PER_SECOND,)},
)
BROKE = Cause(change={"amount": 99})
HELD = Cause(before=(hold("h", 4),), change={"amount": 3})
TOPPED_OVER = Cause(before=(add("m", CREDITS_MAX - 5),), change={"allowance": TEN})
SPENT = charge("p", 10, allowance=TEN)
BACKLOGGED = Cause(before=(charge("f", 1),), last=(wait(23 * HOUR_MS + 1),))

#: How many entries a script looks through where searches are to be cut short.
ENTRIES_MAX = 8
#: What the memory adapter cannot show: values that were overwritten, and searches cut short.
REDIS_ONLY = {"corrupt", "unresolved"}

_SPEND: dict[str, Cause] = {
    "uninitialised": UNINITIALISED,
    "corrupt": CORRUPT,
    "unknown_user": UNKNOWN,
    "ahead": AHEAD,
    "key_reused": REUSED,
    "voided": Cause(before=(void("x"),)),
    "stale": STALE,
    "unresolved": UNRESOLVED,
    "late": LATE,
    "backlog": FULL,
    "too_many_keys": KEYS_FULL,
    "rate_limited": LIMITED,
    "out_of_credits": BROKE,
    "credits_held": HELD,
    "out_of_range": TOPPED_OVER,
}

#: Of each operation of the table: the step that is refused. A spend is a charge or a hold.
FINAL: dict[str, Step] = {
    "charge": charge("x", 1),
    "hold": hold("x", 1),
    "settle": settle("x", 1),
    "cancel": cancel("x"),
    "extend": extend("x", MINUTE_MS),
    "add": add("ann's x", 1),
    "refund": refund("x", of="a"),
    "void": void("x"),
    "observe": observe("x", 1),
    "read": read(),
    "renew": renew(TEN),
    "complete": complete("x"),
}

CAUSES: dict[str, dict[str, Cause]] = {
    "charge": {
        **_SPEND,
        "conflict": Cause(before=(charge("x", 2),), change={"send": Send.RETRY}),
    },
    "hold": {
        **_SPEND,
        # A hold is known without a search, but not a charge that has its id.
        "conflict": Cause(before=(charge("x", 2),), change={"send": Send.RETRY}),
        "too_many_holds": Cause(before=(hold("o", 1),), change={"open_max": 1}),
    },
    "settle": {
        "uninitialised": UNINITIALISED,
        "corrupt": CORRUPT,
        "unknown_hold": NOTHING,
        "conflict": Cause(before=(hold("x", 1), cancel("x"))),
        "hold_expired": Cause(before=(hold("x", 3),), last=(wait(MINUTE_MS),)),
        "out_of_range": Cause(before=(hold("x", 3), add("m", CREDITS_MAX - 2))),
    },
    "cancel": {
        "uninitialised": UNINITIALISED,
        "corrupt": CORRUPT,
        "unknown_hold": NOTHING,
        "conflict": Cause(before=(hold("x", 1), settle("x", 1))),
        "hold_expired": Cause(before=(hold("x", 3),), last=(wait(MINUTE_MS),)),
        "taken_over": Cause(before=(hold("x", 3, key=key("k")),), change={"by": "b"}),
        "out_of_range": Cause(before=(hold("x", 3), add("m", CREDITS_MAX - 2))),
    },
    "extend": {
        "uninitialised": UNINITIALISED,
        "corrupt": CORRUPT,
        "unknown_hold": NOTHING,
        "hold_expired": Cause(before=(hold("x", 3),), last=(wait(MINUTE_MS),)),
        "hold_closed": Cause(before=(hold("x", 3), cancel("x"))),
        "too_long": Cause(before=(hold("x", 3),), last=(wait(1),), change={"ttl_ms": DAY_MS}),
    },
    "add": {
        "uninitialised": UNINITIALISED,
        "corrupt": CORRUPT,
        "unknown_user": UNKNOWN,
        "conflict": Cause(before=(add("x", 2),)),
        "backlog": BACKLOGGED,
        "out_of_range": Cause(
            before=(adjust("n", -CREDITS_MAX, negative_allowed=True),),
            change={"do": "adjust", "amount": -99},
        ),
        "out_of_credits": Cause(change={"do": "adjust", "amount": -99}),
    },
    "refund": {
        "uninitialised": UNINITIALISED,
        "corrupt": CORRUPT,
        "unknown_user": UNKNOWN,
        "conflict": Cause(before=(charge("a", 3), refund("x", "a", 1)), change={"amount": 2}),
        "backlog": BACKLOGGED,
        "unknown_deduct": Cause(change={"of": "nothing"}),
        "refund_exceeded": Cause(before=(charge("a", 3),), change={"amount": 4}),
        "taken_over": Cause(before=(charge("a", 3, key=key("k")),), change={"by": "b"}),
        "out_of_range": Cause(before=(charge("a", 3), add("m", CREDITS_MAX - 2))),
    },
    "void": {
        "uninitialised": UNINITIALISED,
        "corrupt": CORRUPT,
        "too_early": EARLY,
        "kept": Cause(before=(charge("x", 2),), change={"asked_in_ms": 1}),
        "out_of_range": Cause(before=(charge("x", 2), add("m", CREDITS_MAX - 3))),
    },
    "observe": {
        "uninitialised": UNINITIALISED,
        "rate_limited": Cause(
            before=tuple(observe(f"l{number}", limits=(PER_SECOND,)) for number in range(2)),
            change={"limits": (PER_SECOND,)},
        ),
        "out_of_credits": BROKE,
    },
    "read": {"uninitialised": UNINITIALISED, "corrupt": CORRUPT, "unknown_user": UNKNOWN},
    "renew": {
        "uninitialised": UNINITIALISED,
        "corrupt": CORRUPT,
        "unknown_user": UNKNOWN,
        # As much is left as a smaller allowance would bring.
        "current": Cause(before=(charge("p", 1, allowance=TEN),), change={"allowance": TWO}),
        "backlog": Cause(before=(SPENT,), last=(wait(HOUR_MS), fill())),
        "out_of_range": Cause(before=(SPENT, add("m", CREDITS_MAX - 5)), last=(wait(HOUR_MS),)),
    },
    "complete": {"uninitialised": UNINITIALISED, "unknown": NOTHING},
}
