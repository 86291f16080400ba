"""The machine can fail: it finds what a wrong script does, each time.

A fault is one line of Lua that is changed, in whatever scripts it is.
"""

import pytest
from hypothesis import HealthCheck, Phase, settings

from contract.rules import spec_sequences
from spec.staging import staged

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
FAULTS = {
    "a key that comes with another request is taken for a retry": (
        "elseif entry.fingerprint ~= key.fingerprint then",
        "elseif false then",
    ),
    "a refund may be larger by one than what is left": (
        "refunded + amount > cost then",
        "refunded + amount > cost + 1 then",
    ),
    "a period begins anew with each charge": (
        "if now_ms < ends then",
        "if now_ms < started then",
    ),
    "a hold that has ended is still held": (
        "redis.call('HINCRBY', KEYS[1], 'h', 0 - hold.amount)",
        "",
    ),
    "a refusal takes from the limits": (
        "if limit > 0 then\n  local reply",
        "if limit > 0 then\n  take_limits(limits, now_us, ARGV[1])\n  local reply",
    ),
    "what was given back runs again for free": (
        "return refunds[1] and tonumber(refunds[2]) >= tonumber(refunds[1])",
        "return false",
    ),
    "another user is refunded": (
        "return kept[1] == ARGV[2] and tonumber(kept[2]) or nil",
        "return tonumber(kept[2])",
    ),
    "records that are not acknowledged are trimmed": ("if pending[1] > 0 then", "if false then"),
    "a rebuild forgets the period": ("'a', ARGV[4], 'p', ARGV[5])", "'a', ARGV[4])"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_a_script_is_found(name: str, redis_url: str) -> None:
    """Within a bounded number of sequences."""
    right, wrong = FAULTS[name]
    altered = []

    def alter(script: str, source: str) -> str:
        altered.extend([script] if right in source else [])
        return source.replace(right, wrong)

    with staged(redis_url, alter) as stage, pytest.raises(AssertionError):
        play_sequences(stage, SETTINGS)
    assert altered, "the line to be changed is in no script"
