"""Redis and the memory adapter are equal, whatever is done in whatever order.

`make test` plays the same 80 sequences each time. `make soak` plays 2,000 others, and says how
often each operation was answered how. Its first line shows the seed; `make soak SEED=...` plays the
same ones again. What fails is shown as the shortest sequence of steps that fails.
"""

from collections import Counter

import pytest
from hypothesis import HealthCheck, settings

from contract.rules import play_sequences
from soak import SOAK, Record
from spec.stage import staged

pytestmark = pytest.mark.redis

SETTINGS = settings(
    max_examples=SOAK or 80,
    stateful_step_count=40,
    derandomize=not SOAK,
    database=None,
    deadline=None,
    print_blob=True,
    # What is slow is the server, and what is large are the sequences: both are meant.
    suppress_health_check=list(HealthCheck),
)
#: Answers that sequences lead to, unless the machine has gone blind.
REACHED = {
    *(("charge", answer) for answer in ("allowed", "out_of_credits")),
    *(("hold", answer) for answer in ("allowed", "credits_held")),
    *(("refund", answer) for answer in ("allowed", "refund_exceeded", "unknown_deduct")),
    *(("void", "refused"), ("settle", "allowed"), ("complete", "completed"), ("batch", "done")),
    *(("add", "allowed"), ("adjust", "allowed"), ("observe", "allowed"), ("correct", "done")),
    *((do, "done") for do in ("expire", "sweep", "drain", "lose")),
}


def test_any_sequence_ends_alike(redis_url: str, record_property: Record) -> None:
    """Answers, balances, records and rows; and on both backends the invariants hold."""
    with staged(redis_url) as stage:
        answers = play_sequences(stage, SETTINGS)
    record_property("soak", report(answers))
    assert SOAK or set(answers) >= REACHED


def report(answers: Counter[tuple[str, str]]) -> str:
    """Say how often each operation was answered how."""
    lines = [f"{count:7} {do} {answer}" for (do, answer), count in sorted(answers.items())]
    return "\n".join([f"histories: {SETTINGS.max_examples}, {answers.total()} steps:", *lines])
