"""What follows from an attempt: the table of states and events."""

from uuid import UUID

import pytest

from faregate import CreditPolicy, CreditTransactionId
from faregate.domain.attempt import (
    NEXT,
    WITHOUT_TIME,
    Action,
    Attempt,
    Event,
    Phase,
)
from faregate.domain.spend import Spend, SpendOptions

NOW_MS = 1_800_000_000_000
GIVEN = CreditTransactionId.mint(NOW_MS)


def attempt_in(phase: Phase, given: CreditTransactionId | None = None) -> Attempt:
    """Return an attempt that has come so far."""
    options = SpendOptions(transaction_id=given)
    attempt = Attempt(Spend(UUID(int=1), 1, CreditPolicy(), options))
    if phase is not Phase.QUEUED:
        attempt.note_sent(given or CreditTransactionId.mint(NOW_MS), NOW_MS, NOW_MS + 50)
    if phase is Phase.SENT_AGAIN:
        attempt.follow(Event.LOST, has_time=True)
    assert attempt.phase is phase
    return attempt


def test_only_attempts_that_were_sent_are_voided_and_none_of_these_is_forgotten() -> None:
    """The table itself: what was sent and has no answer, or none that is as safe as was asked for,
    ends by a void, or is sent again."""
    unanswered = {Event.TIMED_OUT, Event.LOST, Event.CANCELLED, Event.UNCONFIRMED}
    again = {Event.NOT_SENT, Event.SHED, Event.AHEAD, Event.LATE, *unanswered}
    for (phase, event), action in NEXT.items():
        may_be_charged = (phase is Phase.SENT and event in unanswered) or (
            phase is Phase.SENT_AGAIN and event in again
        )
        assert may_be_charged is (action in {Action.VOID, Action.ASK_AGAIN}), (phase, event)
    assert WITHOUT_TIME[Action.ASK_AGAIN] is Action.VOID
    assert {phase for phase, _ in NEXT} == set(Phase) - {Phase.ENDED}
    assert {event for _, event in NEXT} == set(Event)


@pytest.mark.parametrize("has_time", [True, False])
@pytest.mark.parametrize("given", [None, GIVEN], ids=["minted", "given"])
@pytest.mark.parametrize(("phase", "event"), NEXT, ids=str)
def test_each_state_and_event_leads_to_one_action_and_state(
    phase: Phase, event: Event, given: CreditTransactionId | None, *, has_time: bool
) -> None:
    """A second attempt with the same id is a retry; one with a new id is none; all else ends."""
    attempt = attempt_in(phase, given)
    sent_id = attempt.transaction_id
    action = attempt.follow(event, has_time=has_time)
    expected = NEXT[phase, event]
    assert action is (expected if has_time else WITHOUT_TIME.get(expected, expected))
    states = {Action.ASK_AGAIN: Phase.SENT_AGAIN, Action.ASK_ANEW: Phase.QUEUED}
    assert attempt.phase is states.get(action, Phase.ENDED)
    assert attempt.transaction_id == (given if action is Action.ASK_ANEW else sent_id)
    if action in {Action.VOID, Action.VOID_AND_ANSWER}:
        void = attempt.void()
        # Only an id of the caller's may have been answered to an earlier call.
        assert (void.transaction_id, void.asked_at_ms) == (sent_id, NOW_MS if given else 0)
        assert void.deadline_ms == NOW_MS + 50


@pytest.mark.parametrize(("phase", "event"), [(Phase.QUEUED, Event.ANSWERED)], ids=str)
def test_an_impossible_answer_is_an_error(phase: Phase, event: Event) -> None:
    """An answer to what was not sent is a fault of the adapter, and not passed over."""
    with pytest.raises(KeyError):
        attempt_in(phase).follow(event, has_time=True)
    with pytest.raises(AssertionError):
        attempt_in(Phase.QUEUED).void()


@pytest.mark.parametrize(("given", "told_ms"), [(GIVEN, NOW_MS + 50), (None, 0)])
def test_the_void_of_a_given_id_knows_both_sendings(
    given: CreditTransactionId | None, told_ms: int
) -> None:
    """So it tells its answers from those of other calls with the id; a minted id has no others."""
    attempt = attempt_in(Phase.SENT_AGAIN, given)
    assert attempt.transaction_id is not None
    attempt.note_sent(attempt.transaction_id, NOW_MS + 20, NOW_MS + 70)
    void = attempt.void()
    assert (void.first_deadline_ms, void.deadline_ms) == (told_ms, NOW_MS + 70)
