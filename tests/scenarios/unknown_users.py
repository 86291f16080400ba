"""Unknown users, a ledger that was wiped, and one whose records wait for Postgres."""

from faregate.domain.decision import Verdict
from faregate.domain.errors import LedgerUninitialisedError
from faregate.domain.request import VoidOutcome
from spec.steps import (
    TEN,
    Done,
    Step,
    add,
    adjust,
    cancel,
    charge,
    complete,
    correct,
    drain,
    extend,
    fill,
    hold,
    observe,
    read,
    refund,
    renew,
    settle,
    void,
    wipe,
)

UNKNOWN, LOST = Verdict.UNKNOWN_USER, LedgerUninitialisedError

UNKNOWN_USERS: dict[str, list[Step]] = {
    "a user that nobody knows has nothing, and nothing is written": [
        charge("a", user="nobody", answer=UNKNOWN, credits=0),
        hold("b", user="nobody", answer=UNKNOWN, credits=0),
        add("c", 1, user="nobody", answer=UNKNOWN),
        adjust("d", 1, user="nobody", answer=UNKNOWN),
        refund("e", of="ann's x", user="nobody", answer=UNKNOWN),
        settle("b", 1, user="nobody", answer=Verdict.UNKNOWN_HOLD),
        extend("b", user="nobody", answer=Verdict.UNKNOWN_HOLD),
        void("a", user="nobody", answer=VoidOutcome.REFUSED),
        void("b", user="nobody", answer=VoidOutcome.REFUSED),
        complete("a", user="nobody", answer=Done.UNKNOWN),
        read(user="nobody", answer=UNKNOWN),
        read(credits=5),
    ],
    "a ledger that was wiped serves nobody": [
        hold("a", 2, credits=3),
        wipe(),
        charge("b", answer=LOST),
        hold("c", answer=LOST),
        add("d", 1, answer=LOST),
        adjust("e", 1, answer=LOST),
        refund("f", of="a", answer=LOST),
        settle("a", 1, answer=LOST),
        cancel("a", answer=LOST),
        extend("a", answer=LOST),
        void("b", answer=LOST),
        void("a", answer=LOST),
        read(answer=LOST),
        renew(TEN, answer=LOST),
        complete("a", answer=LOST),
        observe("g", 5, answer=LOST),
        correct(1, answer=LOST),
    ],
    "while too many records wait nothing is taken, and whatever goes back does": [
        charge("a", 2, credits=3),
        hold("b", 2, credits=1),
        fill(),
        charge("c", 1, answer=Verdict.BACKLOG, credits=1),
        hold("d", 1, answer=Verdict.BACKLOG, credits=1),
        charge("a", 2, repeated=True, credits=3),
        refund("r", of="a", credits=3),
        settle("b", 3, credits=2),
        drain(),
        charge("e", 1, credits=1),
    ],
}
