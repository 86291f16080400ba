"""The circuit breaker, by a clock that moves when it is told to."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faregate import BreakerState
from faregate.domain.attempt import AttemptError, Event
from faregate.domain.errors import (
    AmountError,
    ArchiveUnavailableError,
    ConfigurationError,
    LedgerCorruptError,
    LedgerUnavailableError,
    LedgerUninitialisedError,
    OutcomeUnknownError,
    TransactionConflictError,
    UnresolvedError,
)
from faregate.domain.policy import BreakerOptions
from faregate.gate.breaker import PROBE_S_MAX, CircuitBreaker

OPTIONS = BreakerOptions(failures_max=3, span_ms=1_000, delay_ms_min=100, delay_ms_max=400)


class Seconds:
    """A clock in seconds."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Seconds:
    return Seconds()


@pytest.fixture
def breaker(clock: Seconds) -> CircuitBreaker:
    return CircuitBreaker(OPTIONS, clock)


def fail(breaker: CircuitBreaker, times: int) -> None:
    """Let calls in that fail."""
    for _ in range(times):
        breaker.note_failure(breaker.admit())


def refuses(breaker: CircuitBreaker) -> bool:
    """Say whether the next call is refused; one that is not is left unreported."""
    try:
        breaker.admit()
    except LedgerUnavailableError:
        return True
    return False


def test_it_opens_after_failures_in_a_row(breaker: CircuitBreaker) -> None:
    """Not before, and a success in between begins anew."""
    fail(breaker, 2)
    breaker.note_success()
    fail(breaker, 2)
    assert breaker.state is BreakerState.CLOSED
    fail(breaker, 1)
    assert (breaker.state, breaker.opened) == (BreakerState.OPEN, 1)
    assert refuses(breaker)


def test_a_moment_in_which_all_stands_still_opens_nothing(breaker: CircuitBreaker) -> None:
    """However many waited in it. Only a call that came after the first failure confirms it."""
    waiting = [breaker.admit() for _ in range(64)]
    for ticket in waiting[:-1]:
        breaker.note_failure(ticket)
    assert not breaker.is_open
    breaker.note_success()
    for _ in range(2):
        waiting = [breaker.admit() for _ in range(64)]
        for ticket in waiting:
            breaker.note_failure(ticket)
        assert (breaker.state is BreakerState.OPEN) is (breaker.opened == 1)
    assert breaker.opened == 1


@pytest.mark.parametrize(
    ("error", "rows"),
    [
        (AttemptError(Event.TIMED_OUT, "timed out"), 2),
        (AttemptError(Event.LOST, "lost"), 2),
        (AttemptError(Event.NOT_SENT, "not sent"), 2),
        (AttemptError(Event.UNCONFIRMED, "unconfirmed"), 2),
        (OutcomeUnknownError(), 2),
        (LedgerUnavailableError(), 2),
        (AttemptError(Event.SHED, "shed"), 1),
        (asyncio.CancelledError(), 1),
        (ArchiveUnavailableError(), 1),
        (ConfigurationError(), 1),
        (AttemptError(Event.AHEAD, "ahead"), 0),
        (AttemptError(Event.LATE, "late"), 0),
        (UnresolvedError(), 0),
        (LedgerCorruptError(), 0),
        (LedgerUninitialisedError(), 0),
        (TransactionConflictError(), 0),
        (AmountError(), 0),
    ],
    ids=repr,
)
def test_only_a_missing_answer_is_a_failure(
    breaker: CircuitBreaker, error: BaseException, rows: int
) -> None:
    """An answer, even about one user alone, ends the row; what was not asked tells nothing."""
    fail(breaker, 1)
    breaker.report(breaker.admit(), error)
    assert breaker.row == rows


def test_it_says_that_it_opens_and_closes_and_no_more(
    breaker: CircuitBreaker, clock: Seconds, caplog: pytest.LogCaptureFixture
) -> None:
    """One line each, in the words of the field."""
    for _ in range(3):
        breaker.report(breaker.admit(), LedgerUnavailableError("no route"))
    for _ in range(100):
        assert refuses(breaker)
    clock.now += 0.101
    breaker.admit()
    breaker.note_success()
    breaker.note_success()
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "circuit breaker of Redis opened: no route",
        "circuit breaker of Redis closed",
    ]


def test_failures_that_lie_far_apart_do_not_open_it(
    breaker: CircuitBreaker, clock: Seconds
) -> None:
    """What failed longer ago than the span has nothing to do with now."""
    for _ in range(10):
        fail(breaker, 1)
        clock.now += 0.6
    assert breaker.state is BreakerState.CLOSED


def test_one_call_at_a_time_finds_out(breaker: CircuitBreaker, clock: Seconds) -> None:
    """After the delay the next call passes; the others are refused until it has an answer."""
    fail(breaker, 3)
    clock.now += 0.099
    assert refuses(breaker)
    clock.now += 0.002
    assert not refuses(breaker)
    assert refuses(breaker)
    assert str(breaker.state) == "half_open"
    breaker.note_success()
    assert str(breaker.state) == "closed"
    assert not refuses(breaker)
    assert not refuses(breaker)


def test_the_delay_doubles_up_to_its_bound_and_begins_anew(
    breaker: CircuitBreaker, clock: Seconds
) -> None:
    """0.1 s, 0.2 s, 0.4 s, 0.4 s; after an outage is over, 0.1 s again."""
    fail(breaker, 3)
    for delay_s in (0.1, 0.2, 0.4, 0.4):
        clock.now += delay_s - 0.001
        assert refuses(breaker)
        clock.now += 0.002
        breaker.note_failure(breaker.admit())
        assert breaker.state is BreakerState.OPEN
    clock.now += 0.401
    breaker.admit()
    breaker.note_success()
    fail(breaker, 3)
    clock.now += 0.101
    assert not refuses(breaker)


def test_a_probe_that_is_cancelled_makes_room_for_the_next(
    breaker: CircuitBreaker, clock: Seconds
) -> None:
    """It has told nothing, so the next call finds out, at once and with the same delay after."""
    fail(breaker, 3)
    clock.now += 0.101
    breaker.note_abandoned(breaker.admit())
    assert breaker.state is BreakerState.OPEN
    breaker.note_failure(breaker.admit())
    clock.now += 0.199
    assert refuses(breaker)


def test_a_probe_that_never_comes_back_holds_nothing_up_for_ever(
    breaker: CircuitBreaker, clock: Seconds
) -> None:
    """After a bound another one is made; what becomes of the lost one then counts no more."""
    fail(breaker, 3)
    clock.now += 0.101
    lost = breaker.admit()
    clock.now += PROBE_S_MAX - 0.001
    assert refuses(breaker)
    clock.now += 0.002
    second = breaker.admit()
    breaker.note_failure(lost)
    breaker.note_abandoned(lost)
    assert str(breaker.state) == "half_open"
    breaker.note_failure(second)
    assert str(breaker.state) == "open"


def test_calls_from_before_the_opening_can_only_close_the_breaker(
    breaker: CircuitBreaker, clock: Seconds
) -> None:
    """Late failures postpone no probe; a late answer says that Redis is there."""
    late = [breaker.admit() for _ in range(5)]
    fail(breaker, 3)
    for ticket in late[1:]:
        breaker.note_failure(ticket)
    clock.now += 0.101
    assert not refuses(breaker)
    breaker.note_success()
    assert breaker.state is BreakerState.CLOSED


def test_it_shows_since_when(breaker: CircuitBreaker, clock: Seconds) -> None:
    """Half open counts as not closed."""
    clock.now += 2
    assert breaker.state_ms == 2_000
    fail(breaker, 3)
    clock.now += 0.5
    breaker.admit()
    assert breaker.state_ms == 500


@pytest.mark.parametrize(
    "given_",
    [
        {"failures_max": 0},
        {"span_ms": 0},
        {"delay_ms_min": 0},
        {"delay_ms_min": 500, "delay_ms_max": 400},
    ],
    ids=str,
)
def test_bounds_that_make_no_sense_are_refused(given_: dict[str, int]) -> None:
    """Where they are written, not where they bite."""
    with pytest.raises(ConfigurationError):
        BreakerOptions(**given_)


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["call", "note_success", "note_failure", "note_abandoned", "lose"]),
        st.floats(0, 2),
        st.integers(0, 9),
    ),
    max_size=60,
)


@given(actions=ACTIONS)
def test_after_any_history_it_admits_one_call_eventually(
    actions: list[tuple[str, float, int]],
) -> None:
    """No order of reports, late, double or missing, wedges it, and probes are one at a time."""
    clock = Seconds()
    breaker = CircuitBreaker(OPTIONS, clock)
    tickets: list[int] = []
    for do, wait_s, which in actions:
        clock.now += wait_s
        if do == "call":
            was_open = breaker.state is not BreakerState.CLOSED
            if not refuses_into(breaker, tickets) and was_open:
                assert refuses(breaker), "a second probe beside the first"
        elif tickets:
            ticket = tickets.pop(which % len(tickets))
            if do == "note_success":
                breaker.note_success()
            elif do != "lose":
                getattr(breaker, do)(ticket)
    clock.now += PROBE_S_MAX + 1
    breaker.admit()
    breaker.note_success()
    assert breaker.state is BreakerState.CLOSED


def refuses_into(breaker: CircuitBreaker, tickets: list[int]) -> bool:
    """Say whether a call is refused; keep the ticket of one that is not."""
    try:
        tickets.append(breaker.admit())
    except LedgerUnavailableError:
        return True
    return False
