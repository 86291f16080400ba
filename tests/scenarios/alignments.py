"""Live balances that are not those of the ledger, and how they are made to agree."""

from faregate.domain.alignment import AlignmentOutcome
from faregate.domain.errors import (
    AmountError,
    InvalidArgumentError,
    LedgerUninitialisedError,
    TransactionConflictError,
)
from faregate.domain.transaction import CREDITS_MAX, TransactionType
from spec.steps import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    TEN,
    Answer,
    Done,
    Step,
    charge,
    lose,
    make,
    read,
    wait,
    wipe,
)

ALIGNED, REPEATED = AlignmentOutcome.ALIGNED, AlignmentOutcome.REPEATED
LATE, CHANGED = AlignmentOutcome.LATE, AlignmentOutcome.CHANGED
ADJUSTMENT, ADD = TransactionType.ADMIN_ADJUSTMENT, TransactionType.ADD


def alter(amount: int | None, **rest: object) -> Step:
    """Write to the account past the scripts; None deletes it."""
    return make("alter", amount=amount, answer=Done.DONE, **rest)


def look(name: str, answer: Answer = Done.FOUND, **rest: object) -> Step:
    return make("look", name=name, answer=answer, **rest)


def align(name: str, amount: int, **rest: object) -> Step:
    return make("align", name=name, amount=amount, **{"answer": ALIGNED, **rest})


ALIGNMENTS: dict[str, list[Step]] = {
    "a balance that was altered gets what it lacks, and no record": [
        charge("a", credits=4, sequence=2),
        alter(+100),
        align("x", -100, credits=4, sequence=2, credits_before=104, sequence_before=2),
        alter(-3),
        align("y", 3, credits=4, credits_before=1),
        charge("b", credits=3, sequence=3),
    ],
    "charges may come between the measurement and the correction": [
        alter(+10),
        look("l"),
        charge("a", 2, credits=13),
        align("x", -10, of="l", credits=3, credits_before=13, sequence=2),
        charge("b", 3, credits=0, sequence=3),
    ],
    "an alignment is done once, and answers the same for a day": [
        alter(-2),
        look("l"),
        align("x", 2, of="l", credits=5, sequence=1, credits_before=3, sequence_before=1),
        charge("a", credits=4),
        align("x", 2, of="l", answer=REPEATED, credits=5, sequence=1, credits_before=3),
        wait(DAY_MS - 1),
        align("x", 2, of="l", answer=REPEATED, credits=5, sequence_before=1),
        read(credits=4),
        align("x", 3, of="l", answer=TransactionConflictError),
        align("x", 2, user="bob", answer=ALIGNED, credits=7),
    ],
    "a call that was lost is not executed later": [
        alter(-2),
        look("l"),
        wait(MINUTE_MS + 1),
        align("x", 2, of="l", deadline_in_ms=-1, answer=LATE, credits=3, sequence=1),
        align("x", 2, of="l", deadline_in_ms=HOUR_MS + 1, answer=LATE),
        read(credits=3),
        align("x", 2, of="l", deadline_in_ms=HOUR_MS, credits=5),
        align("x", 2, of="l", deadline_in_ms=-1, answer=REPEATED, credits=5),
    ],
    "two who have measured the same correct it once": [
        alter(-2),
        look("l"),
        align("x", 2, of="l", credits=5),
        align("y", 2, of="l", answer=CHANGED, credits=5, credits_before=5, sequence=1),
        alter(-2),
        align("z", 2, credits=5),
        align("x", 2, of="l", answer=REPEATED, credits=5),
    ],
    "a balance that fell behind its rows gets no number twice": [
        charge("a", credits=4, sequence=2),
        align("x", -1, sequence_min=9, credits=3, sequence=9, sequence_before=2),
        charge("b", credits=2, sequence=10),
        align("y", 0, sequence_min=3, credits=2, sequence=10),
    ],
    "a record tells the ledger of a balance that stays as it is": [
        alter(+7),
        align("x", -7, record=ADJUSTMENT, credits=12, sequence=2, credits_before=12),
        align("x", -7, record=ADJUSTMENT, answer=REPEATED, credits=12, sequence=2),
        alter(-4),
        align("y", 4, record=ADJUSTMENT, sequence_min=5, credits=8, sequence=6),
        alter(+1),
        align("z", -1, record=ADD, credits=9, sequence=7),
        charge("a", 9, credits=0, sequence=8),
    ],
    "nothing is recorded where nothing is lacking": [
        align("x", 0, record=ADJUSTMENT, sequence_min=4, credits=5, sequence=4),
        align("y", 1, record=ADD, answer=AmountError),
        align("z", 1, record=TransactionType.REFUND, answer=InvalidArgumentError),
        charge("a", credits=4, sequence=5),
    ],
    "an account that was lost is made anew, once": [
        charge("a", 2, credits=3),
        alter(None),
        look("l", Done.UNKNOWN),
        align("w", 3, of="l", record=ADJUSTMENT, answer=InvalidArgumentError),
        align("x", 3, of="l", sequence_min=2, credits=3, sequence=2, credits_before=0),
        align("y", 3, of="l", sequence_min=2, answer=CHANGED, credits=3),
        charge("a", 2, credits=3, repeated=True),
        charge("b", 3, credits=0, sequence=3),
    ],
    "an account that was lost or made since is measured again": [
        look("l"),
        alter(None),
        align("x", 1, of="l", answer=CHANGED, credits=0, sequence=0),
        look("m", Done.UNKNOWN),
        align("y", 5, sequence_min=1, credits=5),
        wait(DAY_MS + 1),
        align("z", 5, of="m", sequence_min=1, answer=CHANGED, credits=5),
    ],
    "what an allowance lacks is corrected with it": [
        charge("a", 1, allowance=TEN, credits=14, left=9),
        align("x", -4, part=-4, credits=10),
        charge("b", 1, allowance=TEN, credits=9, left=4),
        align("y", -1, part=1, record=ADD, credits=9),
        charge("c", 1, allowance=TEN, credits=8, left=3),
        align("z", 0, part=2, record=ADJUSTMENT, credits=8),
        charge("d", 1, allowance=TEN, credits=7, left=2),
    ],
    "a correction stays within the range, and may go below zero": [
        align("x", CREDITS_MAX, answer=AmountError),
        align("y", -8, credits=-3),
        align("z", CREDITS_MAX + 3, credits=CREDITS_MAX),
        align("w", CREDITS_MAX + 3, record=ADJUSTMENT, answer=AmountError),
        read(credits=CREDITS_MAX),
    ],
    "what was measured in an epoch that is over corrects nothing": [
        look("l"),
        lose(),
        align("x", 1, of="l", answer=LedgerUninitialisedError),
        read(credits=5),
        wipe(),
        look("m", LedgerUninitialisedError),
        align("x", 1, of="l", answer=LedgerUninitialisedError),
    ],
}
