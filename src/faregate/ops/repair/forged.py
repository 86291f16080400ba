"""Plans for rows that no batch wrote as they are: restore or register them. No I/O."""

from faregate.domain.finding import Finding
from faregate.domain.repair import Favour, Row, Step, StepAction
from faregate.ops.repair.facts import Facts, row_id_of
from faregate.ops.repair.steps import no_repair

_SHOWN = ("user_id", "sequence", "amount", "balance_after", "type", "description", "timestamp")


def plan_forged(finding: Finding, facts: Facts, _favour: Favour) -> Step:
    """Plan the step for a row that no batch wrote as it is."""
    row = facts.rows.get(finding.id)
    if row is None:
        return _nothing(finding, "batches were changed or are missing: restore them from a backup")
    original = facts.originals.get(finding.id)
    if original is not None:
        return Step(
            finding=finding,
            action=StepAction.RESTORE,
            says=f"restores transaction {row['id']} of user {original['user_id']} as it was"
            f" written ({_differences(row, original)}), under a short lock of the table.",
            rows=(original,),
            row_id=row_id_of(finding),
        )
    if row["sequence"] is None:
        amount = int(str(row["amount"]))
        return Step(
            finding=finding,
            action=StepAction.REGISTER,
            says=f"registers the row {row['id']} of {amount:+} credits, which somebody inserted for"
            f" user {finding.user_id} by hand: it counts from now on.",
            amount=amount,
            rows=(row,),
        )
    return _nothing(
        finding,
        f"there is no proof of transaction {row['sequence']} of user {finding.user_id}: restore"
        " it from a backup",
    )


def _nothing(finding: Finding, why: str) -> Step:
    return no_repair(finding, f"{why}, or accept it with `faregate acknowledge {finding.id}`.")


def _differences(row: Row, original: Row) -> str:
    changed = [name for name in _SHOWN if str(row[name]) != str(original[name])]
    numbers = [f"{name} from {row[name]} to {original[name]}" for name in changed]
    return ", ".join(numbers[:3]) or "metadata"
