"""`faregate repair` and `acknowledge`: repair findings, or accept them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated
from uuid import UUID

import typer

from faregate.adapters.postgres.restoration import SchemaRestorer
from faregate.bootstrap import (
    check_repairer_rights,
    open_accounts,
    open_audit,
    open_repairs,
    open_snapshots,
    open_stream,
)
from faregate.cli.commands.credits import operator_of, require_done
from faregate.cli.commands.rebuild import rebuild_empty
from faregate.cli.conventions import EXIT_NOT_EXACT, Json, print_result
from faregate.cli.gates import ask, operator_gate
from faregate.config import read_settings
from faregate.domain.finding import is_finding_id
from faregate.domain.operator import Operator
from faregate.domain.repair import Favour, Step
from faregate.ops import repair as ops
from faregate.ops.repair import Repaired, Servers, Sources


def _well_formed(ids: list[str] | None) -> list[str] | None:
    for name in ids or ():
        if not is_finding_id(name):
            raise typer.BadParameter(f"{name!r} is not the id of a finding, such as live-1a2b3c4d")
    return ids


_Findings = Annotated[
    list[str] | None,
    typer.Argument(
        callback=_well_formed, help="Ids, such as live-1a2b3c4d; all findings by default."
    ),
]


def repair(
    findings: _Findings = None,
    *,
    apply: Annotated[
        bool, typer.Option("--apply", help="Take the steps; without it, only show them.")
    ] = False,
    favour: Annotated[
        Favour, typer.Option(help="Whom to favour if there is no proof.")
    ] = Favour.LEDGER,
    actor: Annotated[str, typer.Option(help="The operator; required with --apply.")] = "",
    reason: Annotated[str, typer.Option(help="The reason; required with --apply.")] = "",
    as_json: Json = False,
) -> None:
    """Repair the findings of reconcile and verify. Without --apply, only show the steps.

    Example: faregate repair --apply --actor ann --reason "ticket 7"
    """
    ids = findings or []
    who = operator_of(actor, reason) if apply else None
    if who is not None:
        check_repairer_rights(read_settings())
    with _servers() as servers:
        if who is None:
            done = ops.preview(servers, ids, favour)
        else:
            done = ops.repair(servers, ids, favour, who, _shown(as_json))
    _print_repaired(done, as_json, is_applied=who is not None)
    if done.left:
        raise typer.Exit(EXIT_NOT_EXACT)


def acknowledge(
    findings: Annotated[
        list[str], typer.Argument(callback=_well_formed, help="Ids, such as gap-1a2b3c4d.")
    ],
    *,
    actor: Annotated[str, typer.Option(help="The operator.")],
    reason: Annotated[str, typer.Option(help="The reason.")],
    as_json: Json = False,
) -> None:
    """Accept findings as they are. They stay listed, and are an alarm again if they change.

    Example: faregate acknowledge gap-1a2b3c4d --actor ann --reason "lost in the outage, ticket 7"
    """
    who = operator_of(actor, reason)
    with _servers() as servers:
        done = ops.acknowledge(servers, findings, who)
    _print_repaired(done, as_json, is_applied=True)


@contextmanager
def _servers() -> Iterator[Servers]:
    settings = read_settings()
    with (
        open_stream(settings) as stream,
        open_audit(settings) as audit,
        open_accounts(settings) as accounts,
        open_snapshots(settings) as snapshots,
        open_repairs(settings) as repairs,
    ):
        yield Servers(
            audit,
            Sources(stream, stream, accounts, snapshots, repairs),
            _adjust,
            SchemaRestorer(settings.postgres_url).restore,
            lambda: rebuild_empty(settings),
        )


def _adjust(user_id: UUID, amount: int, idempotency_key: str, who: Operator) -> None:
    """Adjust a balance, once for an idempotency key."""
    decision = ask(
        operator_gate(),
        lambda gate: gate.adjust(
            user_id,
            amount,
            actor=who.actor,
            reason=who.reason,
            negative_allowed=True,
            idempotency_key=idempotency_key,
        ),
    )
    require_done(decision)


def _shown(as_json: bool) -> ops.OnStep:
    """Return the function that prints each step right before it is applied."""

    def show(step: Step) -> None:
        if not as_json:
            print(step.says)

    return show


def _print_repaired(done: Repaired, as_json: bool, *, is_applied: bool) -> None:
    steps = [_step(step) for step in done.steps]
    left = [finding.as_dict() for finding in done.left]
    result = {
        "applied": is_applied,
        "steps": steps,
        "left": left,
        "resolved": list(done.resolved),
        "dead_letters": done.dead_letter_count,
    }
    print_result(result, _lines(done, is_applied), as_json=as_json)


def _step(step: Step) -> dict[str, object]:
    return {
        "finding_id": step.finding.id,
        "user_id": step.finding.user_id,
        "action": step.action.value,
        "amount": step.amount,
        "says": step.says,
    }


def _lines(done: Repaired, is_applied: bool) -> Sequence[str]:
    """Return the last lines of the output; applied steps were printed before."""
    resolved = [f"{name} no longer exists." for name in done.resolved]
    if done.dead_letter_count:
        resolved.append(f"{done.dead_letter_count} dead letters: run `faregate dead-letters list`.")
    if is_applied:
        left = [f"left: {one.id}: {one.detail}" for one in done.left]
        return [*resolved, *left, f"steps taken: {len(done.steps)}, findings left: {len(left)}"]
    planned = [f"{step.finding.id} {step.action}: {step.says}" for step in done.steps]
    end = "nothing to repair" if not planned else "nothing was changed: take the steps with --apply"
    return [*resolved, *planned, end]
