"""The plan of a repair: the order, and one correction of a user at a time."""

from dataclasses import replace
from uuid import UUID

from faregate.domain.alignment import LiveAccount, LiveDrift
from faregate.domain.finding import DriftKind, Finding
from faregate.domain.repair import Favour, StepAction
from faregate.domain.user import User
from faregate.ops.repair.facts import Facts
from faregate.ops.repair.plan import plan, plan_epochs

USER = UUID(int=7)
LIVE = Finding(
    kind=DriftKind.LIVE, user_id=USER, sequence=5, expected=10, found=15, detail="a sentence"
)
BEHIND = replace(LIVE, kind=DriftKind.BEHIND)
PROFILE = replace(LIVE, kind=DriftKind.PROJECTION)
GUARD = Finding(
    kind=DriftKind.GUARD, user_id=None, expected=None, found=None, detail="gone", subject="a policy"
)
ACCOUNT = LiveAccount(
    user_id=USER,
    shard=7,
    epoch=1,
    ordinal=9,
    at_ms=1,
    user=User(id=USER, credits=15, sequence=5, epoch=1),
    last_id=None,
)
DRIFT = LiveDrift(account=ACCOUNT, amount=-5, allowance_amount=0, sequence_min=5)
FACTS = Facts(
    live={},
    drifts={USER: DRIFT},
    records={},
    row_context={},
    rows={},
    originals={},
    proven=frozenset(),
)


def actions(*findings: Finding) -> list[tuple[DriftKind, StepAction]]:
    """What is done about findings."""
    steps = plan(findings, FACTS, Favour.LEDGER)
    return [(step.finding.kind, step.action) for step in steps]


def test_a_profile_comes_before_the_live_balance_of_its_user_and_of_no_other() -> None:
    other = replace(LIVE, user_id=UUID(int=8))
    assert actions(LIVE, PROFILE, other) == [
        (DriftKind.PROJECTION, StepAction.RECOMPUTE),
        (DriftKind.LIVE, StepAction.WAIT),
        (DriftKind.LIVE, StepAction.NONE),
    ]


def test_a_user_is_corrected_once_however_many_findings_say_so() -> None:
    assert actions(LIVE, BEHIND) == [
        (DriftKind.LIVE, StepAction.CORRECT),
        (DriftKind.BEHIND, StepAction.WAIT),
    ]


def test_the_schema_is_restored_once_and_keeps_no_user_waiting() -> None:
    assert actions(LIVE, GUARD, replace(GUARD, subject="a trigger")) == [
        (DriftKind.GUARD, StepAction.RESTORE_SCHEMA),
        (DriftKind.GUARD, StepAction.WAIT),
        (DriftKind.LIVE, StepAction.CORRECT),
    ]


def test_a_decrease_is_reported_with_its_numbers() -> None:
    (step,) = plan([LIVE], FACTS, Favour.LEDGER)
    assert f"lowers the live balance of {USER} from 15 to 10" in step.says
    (step,) = plan([LIVE], FACTS, Favour.USER)
    assert (step.action, step.amount) == (StepAction.RECORD, 5)


def test_nothing_is_repaired_in_a_redis_of_another_ledger() -> None:
    """All else waits, since it may follow from that."""
    epoch = replace(GUARD, kind=DriftKind.EPOCH)
    named = frozenset({epoch.id})
    for is_empty, action in ((True, StepAction.REBUILD), (False, StepAction.NONE)):
        steps = plan_epochs([LIVE, epoch, PROFILE], named, is_empty=is_empty)
        assert [step.action for step in steps] == [action, StepAction.WAIT, StepAction.WAIT]


def test_an_empty_redis_is_left_alone_until_its_finding_is_named() -> None:
    """It may be the wrong one."""
    epoch = replace(GUARD, kind=DriftKind.EPOCH)
    (step,) = plan_epochs([epoch], frozenset({LIVE.id}), is_empty=True)
    assert (step.action, f"repair {epoch.id} --apply" in step.says) == (StepAction.NONE, True)
