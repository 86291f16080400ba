"""The report of a replay, and the comparison of client and servers."""

from dataclasses import dataclass

from faregate.cli.load import LoadCounts
from faregate.cli.proof import Proof


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayReport:
    """The report of a replay. Numbers come from the servers unless marked otherwise."""

    #: Usable lines, each sent as one request. Counted by the client.
    requests: int
    #: Charged, or held and settled; without voided and expired ones.
    allowed: int
    #: Refused as out of credits. Counted by the client, since refusals are not recorded.
    refused: int
    refunded: int
    #: Held, and the owner was killed before it could settle. Counted by the client.
    owners_killed: int
    #: The credits that all users have paid: deducts less refunds.
    spent: int
    #: Settlements above the estimate.
    beyond_estimate: int
    holds_open: int
    #: Expired holds, which were given back.
    holds_given_back: int
    users: int
    #: Rows of all types, voided charges and their voids included.
    rows: int
    pending: int
    drift_users: int
    dead_letters: int
    #: The sum of all live balances.
    live_credits: int
    #: Charges and holds of requests with a 503, which were given back. Each adds two rows.
    voided: int
    #: Requests that were sent again after a 503. Counted by the client.
    retried: int
    #: Lines without a request. Counted by the client.
    unusable_lines: int
    #: The restarts of the worker.
    worker_restarts: int
    elapsed_s: float


def report_of(
    counts: LoadCounts, proof: Proof, *, unusable_lines: int, worker_restarts: int, elapsed_s: float
) -> ReplayReport:
    """Return the report from the counts of the client and the numbers of the servers."""
    return ReplayReport(
        requests=counts.requests,
        allowed=proof.rows.allowed,
        refused=counts.refused,
        refunded=proof.rows.refunded,
        owners_killed=counts.killed,
        spent=proof.rows.spent,
        beyond_estimate=proof.rows.beyond_estimate,
        holds_open=proof.holds_open,
        holds_given_back=proof.rows.given_back,
        users=proof.users,
        rows=proof.rows.count,
        pending=proof.pending,
        drift_users=proof.drift_users,
        dead_letters=proof.dead_letters,
        live_credits=proof.live_credits,
        voided=proof.rows.voided,
        retried=counts.retried,
        unusable_lines=unusable_lines,
        worker_restarts=worker_restarts,
        elapsed_s=elapsed_s,
    )


def disagreements(counts: LoadCounts, proof: Proof, starting_credits: int) -> list[str]:
    """Compare the client's counts with the values that were read back."""
    rows = proof.rows
    named_rows = (
        proof.users if starting_credits else 0,
        rows.deducts,
        rows.beyond_estimate,
        rows.below_estimate,
        rows.given_back,
        rows.voided,
        rows.refunded,
    )
    with_outcome = counts.allowed + counts.refused + counts.killed
    expected = (
        ("requests allowed, refused or killed", with_outcome, counts.requests),
        ("charges and settled holds", rows.allowed, counts.allowed),
        ("refunds", rows.refunded, counts.refunded),
        ("settlements beyond the estimate", rows.beyond_estimate, counts.beyond_estimate),
        ("spent credits", rows.spent, counts.spent),
        ("rows", rows.count, sum(named_rows)),
        ("live credits", proof.live_credits, proof.users * starting_credits - counts.spent),
    )
    wrong = [
        f"{what}: {found}, but should be {should}"
        for what, found, should in expected
        if found != should
    ]
    # A hold that came too late to be settled went back, too, and its request was sent again.
    if not counts.killed <= rows.given_back <= counts.killed + counts.retried:
        wrong.append(f"holds given back: {rows.given_back}, but {counts.killed} owners were killed")
    return [*proof.problems, *wrong]
