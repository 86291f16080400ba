"""The scenarios and the machine can fail: they find what a wrong script does, each time."""

import pytest
from hypothesis import HealthCheck, Phase, settings

from contract.faults import FAULTS
from contract.rules import play_sequences
from contract.test_scenarios import check
from spec.stage import Stage, staged
from spec.steps import Step

pytestmark = pytest.mark.redis

SETTINGS = settings(
    max_examples=500,
    stateful_step_count=40,
    derandomize=True,
    database=None,
    deadline=None,
    # The first sequence that fails will do; nobody reads a shorter one.
    phases=[Phase.generate],
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_a_script_is_found(name: str, redis_url: str) -> None:
    """By the scenarios of its subject or, within a bounded number of sequences, by the machine."""
    fault = FAULTS[name]
    altered = []

    def alter(script: str, source: str) -> str:
        altered.extend([script] if fault.right in source else [])
        return source.replace(fault.right, fault.wrong)

    with staged(redis_url, alter) as stage, pytest.raises(AssertionError) as found:
        play(stage, fault.subject)
    assert altered, "the line to be changed is in no script"
    assert "LedgerUnavailableError" not in str(found.value), "the script does not run at all"


def play(stage: Stage, subject: dict[str, list[Step]] | None) -> None:
    if subject is None:
        play_sequences(stage, SETTINGS)
    for steps in (subject or {}).values():
        stage.loop.run(check(stage.backend("redis"), steps))


def test_there_are_enough_faults() -> None:
    """And each changes something."""
    assert len(FAULTS) >= 25
    assert all(fault.right != fault.wrong for fault in FAULTS.values())
