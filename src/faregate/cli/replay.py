"""`faregate replay`: a real access log against the whole path, and the proof that it is exact."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from faregate.asgi.middleware import status_set
from faregate.cli.access_log import AccessLog
from faregate.cli.conventions import EXIT_NOT_EXACT
from faregate.cli.display import error_console, progress_on, say_on, show_draining
from faregate.cli.load import Counts, PlannedRequest, Sender
from faregate.cli.proof import Proof, prove
from faregate.cli.sample_api import statuses_of
from faregate.cli.stack import Stack, StackOptions, stopping_on_signals
from faregate.domain.errors import InvalidArgumentError
from faregate.domain.transaction import CREDITS_MAX

CONCURRENCY_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOptions:
    """What to replay, and on what."""

    file: Path
    #: Starting credits of each user.
    credits: int
    #: How many requests are out at once.
    concurrency: int
    #: Which statuses are refunded: `5xx,404`.
    refund_status: str
    redis_url: str | None = None
    postgres_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayReport:
    """What came of a replay. Every number but those marked is read back from the servers."""

    #: Usable lines, each sent as one request. Counted by the client.
    requests: int
    #: Charges that stand: deducts without those that were voided.
    allowed: int
    #: Answered by the gate as out of credits. Counted by the client: a refusal leaves no trace.
    refused: int
    refunded: int
    users: int
    #: Rows of all types, voided charges and their voids included.
    rows: int
    pending: int
    drift_users: int
    dead_letters: int
    #: The sum of all live balances.
    live_credits: int
    #: Charges whose request was answered 503, and which were given back. They add two rows each.
    voided: int
    #: Requests that were sent again after a 503. Counted by the client.
    retried: int
    #: Lines without readable address, request or status. Counted by the client.
    unusable_lines: int
    #: How often the worker died and was started again.
    worker_restarts: int
    elapsed_s: float


def run_replay(options: ReplayOptions, console: Console) -> tuple[ReplayReport, list[str]]:
    """Replay a log; return the report, and what is wrong with the ledger, one sentence each.

    Raises:
        InvalidArgumentError: The file cannot be read, or holds no line that can be sent.
        FaregateError: What it runs on cannot be started, or died for good.
    """
    status_set(statuses_of(options.refund_status))
    total = sum(1 for _ in AccessLog(options.file))
    if not total:
        raise InvalidArgumentError(f"{options.file} holds no line of an access log")
    stack_options = StackOptions(
        starting_credits=options.credits,
        provision_users=True,
        refund_status=options.refund_status,
        redis_url=options.redis_url,
        postgres_url=options.postgres_url,
    )
    log = AccessLog(options.file)
    began_s = time.monotonic()
    with stopping_on_signals(), Stack(stack_options, say_on(console)) as stack:
        with progress_on(console) as progress:
            task = progress.add_task("sending", total=total)
            sending = _send(stack, options, log, lambda: progress.advance(task))
            counts, problems = asyncio.run(stack.while_well(sending))
            problems += show_draining(stack, progress)
        proof = prove(stack.settings)
        report = _report(counts, proof, log.unusable_count, stack.worker_restarts, began_s)
    return report, problems + _disagreements(counts, proof, options.credits)


async def _send(
    stack: Stack, options: ReplayOptions, log: AccessLog, on_outcome: Callable[[], None]
) -> tuple[Counts, list[str]]:
    """Send every request, then wait until the API has nothing left to do."""
    refund_statuses = status_set(statuses_of(options.refund_status))
    sender = Sender(
        *stack.api_address, concurrency=options.concurrency, refund_statuses=refund_statuses
    )
    counts = await sender.send_all(_plan(log), on_outcome)
    return counts, await sender.problems(counts)


def _plan(log: AccessLog) -> Iterator[PlannedRequest]:
    for request in log:
        address = request.address
        yield PlannedRequest(client=address, status=request.status, lane=address)


def _report(
    counts: Counts, proof: Proof, unusable_lines: int, worker_restarts: int, began_s: float
) -> ReplayReport:
    return ReplayReport(
        requests=counts.requests,
        allowed=proof.rows.allowed,
        refused=counts.refused,
        refunded=proof.rows.refunded,
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
        elapsed_s=round(time.monotonic() - began_s, 1),
    )


def _disagreements(counts: Counts, proof: Proof, starting_credits: int) -> list[str]:
    """Compare what the client has seen with what was read back."""
    rows = proof.rows
    starting_rows = proof.users if starting_credits else 0
    expected = (
        ("allowed and refused requests", counts.allowed + counts.refused, counts.requests),
        ("charges that stand", rows.allowed, counts.allowed),
        ("refunds", rows.refunded, counts.refunded),
        ("rows", rows.count, starting_rows + rows.deducts + rows.refunded + rows.voided),
        (
            "live credits",
            proof.live_credits,
            proof.users * starting_credits - counts.allowed + counts.refunded,
        ),
    )
    wrong = [
        f"{what}: {found}, but should be {should}"
        for what, found, should in expected
        if found != should
    ]
    return [*proof.problems, *wrong]


def replay(
    file: Annotated[Path, typer.Argument(help="A log in the common or the combined format.")],
    *,
    credits: Annotated[
        int, typer.Option(min=0, max=CREDITS_MAX, help="What each user starts with.")
    ] = 3,
    concurrency: Annotated[
        int, typer.Option(min=1, max=CONCURRENCY_MAX, help="How many requests are out at once.")
    ] = 64,
    refund_status: Annotated[
        str, typer.Option(help="Which statuses are refunded, such as 5xx,404.")
    ] = "5xx",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")
    ] = False,
    redis_url: Annotated[
        str | None, typer.Option(help="An empty Redis, instead of an embedded one.")
    ] = None,
    postgres_url: Annotated[
        str | None, typer.Option(help="An empty database, instead of an embedded one.")
    ] = None,
) -> None:
    """Replay an access log over HTTP, and prove that every credit is accounted for.

    Each client address is a user, and the app answers what the log says. Exit 1 if allowed and
    refused requests do not add up, or the ledger is not exact.
    """
    options = ReplayOptions(
        file=file,
        credits=credits,
        concurrency=concurrency,
        refund_status=refund_status,
        redis_url=redis_url,
        postgres_url=postgres_url,
    )
    console = error_console()
    report, problems = run_replay(options, console)
    if as_json:
        print(json.dumps(asdict(report)))
    else:
        _show(report)
    for problem in problems:
        say_on(console)(f"not exact: {problem}")
    if problems:
        raise typer.Exit(EXIT_NOT_EXACT)


def _show(report: ReplayReport) -> None:
    table = Table("", "count", title="What came of the log")
    for name, value in asdict(report).items():
        table.add_row(name.replace("_", " "), f"{value:,}")
    Console().print(table)
