"""`faregate replay`: sends real traffic through the whole path, and proves that it is exact."""

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from faregate.asgi.statuses import status_set
from faregate.cli.chaos import send_and_kill
from faregate.cli.conventions import EXIT_NOT_EXACT, Json, error_console, print_result
from faregate.cli.display import printer_on, progress_on, show_draining
from faregate.cli.load import LoadCounts, Sender
from faregate.cli.plans import Plan, plan_of
from faregate.cli.proof import prove
from faregate.cli.replay_api import statuses_of
from faregate.cli.report import ReplayReport, disagreements, report_of
from faregate.cli.settings import url_of_option
from faregate.cli.stack import Stack, StackOptions, stopping_on_signals
from faregate.domain.errors import InvalidArgumentError
from faregate.domain.transaction import CREDITS_MAX

CONCURRENCY_MAX = 1_000
PERCENT_MAX = 100
#: The range of drawn seeds; any other number may be given.
SEED_MAX = 2**32


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOptions:
    """The options of a replay."""

    file: Path
    #: Starting credits of each user; None for the default of the format.
    credits: int | None
    #: How many requests are out at once.
    concurrency: int
    #: The refunded statuses, such as `5xx,404`.
    refund_status: str
    #: The percentage of owners of holds that are killed before they settle, and the seed of the
    #: choice.
    kill_percent: int
    seed: int
    redis_url: str | None = field(default=None, repr=False)
    postgres_url: str | None = field(default=None, repr=False)


def run_replay(options: ReplayOptions, console: Console) -> tuple[ReplayReport, list[str]]:
    """Replay a file; return the report, and a sentence for each problem of the ledger.

    Raises:
        InvalidArgumentError: The file cannot be read, or has no request.
        FaregateError: A server or process cannot be started, or died for good.
    """
    status_set(statuses_of(options.refund_status))
    plan = plan_of(options.file, kill_percent=options.kill_percent, seed=options.seed)
    if plan.killed and options.concurrency == 1:
        raise InvalidArgumentError("to kill owners of holds, give a concurrency of 2 or more")
    print_line = printer_on(console)
    if options.kill_percent:
        print_line(f"seed {options.seed}: {plan.killed} of {plan.total} owners will be killed")
    starting_credits = plan.starting_credits if options.credits is None else options.credits
    stack_options = StackOptions(
        starting_credits=starting_credits,
        provision_users=True,
        refund_status=options.refund_status,
        redis_url=options.redis_url,
        postgres_url=options.postgres_url,
    )
    began_s = time.monotonic()
    with stopping_on_signals(), Stack(stack_options, print_line) as stack:
        with progress_on(console) as progress:
            task = progress.add_task("sending", total=plan.total)
            sending = _send(stack, options, plan, lambda: progress.advance(task))
            counts, problems = asyncio.run(stack.while_healthy(sending))
            problems += show_draining(stack, progress)
        proof = prove(stack.settings)
        elapsed_s = round(time.monotonic() - began_s, 1)
        report = report_of(
            counts,
            proof,
            unusable_lines=plan.unusable_lines,
            worker_restarts=stack.worker_restarts,
            elapsed_s=elapsed_s,
        )
    return report, problems + disagreements(counts, proof, starting_credits)


async def _send(
    stack: Stack, options: ReplayOptions, plan: Plan, on_outcome: Callable[[], None]
) -> tuple[LoadCounts, list[str]]:
    """Send all requests, then wait until the API has nothing left to do."""
    # Requests whose owners are killed are sent at the same time as the others.
    killed_at_once = min(plan.killed, options.concurrency // 2)
    sender = Sender(
        *stack.api.address,
        concurrency=options.concurrency - killed_at_once,
        refund_statuses=status_set(statuses_of(options.refund_status)),
    )
    others = (request for request in plan.requests() if not request.is_killed)
    to_kill = (request for request in plan.requests() if request.is_killed)
    counts, (killed, problems) = await asyncio.gather(
        sender.send_all(others, on_outcome),
        send_and_kill(stack, to_kill, killed_at_once, on_outcome),
    )
    return counts + killed, problems + await sender.problems(counts)


_File = Annotated[
    Path, typer.Argument(help="An access log (common or combined), or a CSV of conversations.")
]
_Credits = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=CREDITS_MAX,
        help="Starting credits of each user; 3, or 1,000,000 for conversations.",
    ),
]
_Concurrency = Annotated[
    int, typer.Option(min=1, max=CONCURRENCY_MAX, help="The number of concurrent requests.")
]
_RefundStatus = Annotated[
    str, typer.Option(help="Statuses of an access log to refund, such as 5xx,404.")
]
_KillOwners = Annotated[
    int,
    typer.Option(
        min=0,
        max=PERCENT_MAX,
        metavar="PERCENT",
        help="The percentage of hold owners to kill before they settle.",
    ),
]
_Seed = Annotated[
    int | None,
    typer.Option(help="The seed that chooses them; it is printed, to repeat a run."),
]
_RedisUrl = Annotated[
    str | None, typer.Option(help="An empty Redis of your own: a URL, or env:NAME.")
]
_PostgresUrl = Annotated[
    str | None, typer.Option(help="An empty database of your own: a URL, or env:NAME.")
]


def replay(
    file: _File,
    *,
    credits: _Credits = None,
    concurrency: _Concurrency = 64,
    refund_status: _RefundStatus = "5xx",
    kill_owners: _KillOwners = 0,
    seed: _Seed = None,
    as_json: Json = False,
    redis_url: _RedisUrl = None,
    postgres_url: _PostgresUrl = None,
) -> None:
    """Replay real traffic over HTTP, and prove that every credit is accounted for.

    In an access log, each client address is a user, and the app answers with the logged status. A
    conversation is a hold that is settled at its actual cost. Exit 1 if the outcomes of the
    requests do not add up, or the ledger is not exact.

    Example: faregate replay access.log --refund-status 5xx,404
    """
    options = ReplayOptions(
        file=file,
        credits=credits,
        concurrency=concurrency,
        refund_status=refund_status,
        kill_percent=kill_owners,
        seed=secrets.randbelow(SEED_MAX) if seed is None else seed,
        redis_url=url_of_option(redis_url, "--redis-url"),
        postgres_url=url_of_option(postgres_url, "--postgres-url"),
    )
    console = error_console()
    report, problems = run_replay(options, console)
    print_result(asdict(report), as_json=as_json)
    for problem in problems:
        printer_on(console)(f"not exact: {problem}")
    if problems:
        raise typer.Exit(EXIT_NOT_EXACT)
