"""`faregate demo`: runs the whole path for several profiles of users, and proves it exact."""

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import cast

import psycopg
import typer
from redis import Redis
from rich import box
from rich.console import Console
from rich.table import Table

from faregate.adapters.postgres.connection import unavailable
from faregate.adapters.redis import keys
from faregate.adapters.redis.values import Account
from faregate.asgi.statuses import status_set
from faregate.bootstrap import open_gate, open_stream
from faregate.cli.conventions import EXIT_NOT_EXACT, error_console
from faregate.cli.display import printer_on, progress_on, show_draining
from faregate.cli.load import LoadCounts, Sender
from faregate.cli.profiles import PROFILES, STARTING_CREDITS, Outcome, Profile, expected_outcome
from faregate.cli.proof import Proof, count_rows, prove
from faregate.cli.stack import Stack, StackOptions, stopping_on_signals
from faregate.config import Settings
from faregate.gate import Gate

#: With the value 1 the demo alters one balance by hand, which its proof must find.
BREAK_VARIABLE = "DEMO_BREAK"

_REFUND_STATUS = "5xx"
_CONCURRENCY = 16
_CONCURRENCY_OF_BURST = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    """The result of one profile of users."""

    profile: Profile
    #: The outcome as the client saw it.
    counts: LoadCounts
    #: The outcome in the servers.
    outcome: Outcome


def demo() -> None:
    """Run the whole path on new servers, and prove that every credit is accounted for.

    Exit 1 if the ledger is not exact. With DEMO_BREAK=1 it alters one balance by hand, and must
    find it.

    Example: faregate demo
    """
    console = error_console()
    began_s = time.monotonic()
    options = StackOptions(
        starting_credits=STARTING_CREDITS, provision_users=False, refund_status=_REFUND_STATUS
    )
    with stopping_on_signals(), Stack(options, printer_on(console)) as stack:
        _sign_up(stack.settings)
        with progress_on(console) as progress:
            total = sum(expected_outcome(profile).requests for profile in PROFILES)
            task = progress.add_task("sending", total=total)
            sending = _send_all(stack, lambda: progress.advance(task))
            counts, problems = asyncio.run(stack.while_healthy(sending))
            problems += show_draining(stack, progress)
        if os.environ.get(BREAK_VARIABLE) == "1":
            _alter_a_balance(stack.settings, printer_on(console))
        results = [_read_back(stack.settings, profile, counts[profile]) for profile in PROFILES]
        proof = prove(stack.settings)
    problems += [*proof.problems, *_disagreements(results)]
    _show(results, proof, time.monotonic() - began_s)
    for problem in problems:
        print(f"not exact: {problem}")
    if problems:
        raise typer.Exit(EXIT_NOT_EXACT)
    print("exact: every credit is accounted for")


def _sign_up(settings: Settings) -> None:
    """Create the users as a sign-up does: a trigger of the schema makes profiles and credits."""
    user_ids = [user_id for profile in PROFILES if profile.is_known for user_id in profile.user_ids]
    with unavailable("sign users up"), psycopg.connect(settings.postgres_url) as connection:
        connection.execute("insert into auth.users (id) select unnest(%s::uuid[])", [user_ids])


async def _send_all(
    stack: Stack, on_outcome: Callable[[], None]
) -> tuple[Mapping[Profile, LoadCounts], list[str]]:
    """Send the requests of all profiles at the same time."""
    async with open_gate(stack.settings) as gate, asyncio.TaskGroup() as tasks:
        sending = {
            profile: tasks.create_task(_send_profile(stack, gate, profile, on_outcome))
            for profile in PROFILES
        }
    counts = {profile: task.result()[0] for profile, task in sending.items()}
    problems = [problem for task in sending.values() for problem in task.result()[1]]
    return counts, problems


async def _send_profile(
    stack: Stack, gate: Gate, profile: Profile, on_outcome: Callable[[], None]
) -> tuple[LoadCounts, list[str]]:
    sender = Sender(
        *stack.api.address,
        concurrency=_CONCURRENCY_OF_BURST if profile.is_burst else _CONCURRENCY,
        refund_statuses=status_set([_REFUND_STATUS]),
    )
    counts = await sender.send_all(profile.plan(profile.requests), on_outcome)
    if profile.bought:
        for user_id in profile.user_ids:
            await gate.grant(user_id, profile.bought, description="purchase")
    counts += await sender.send_all(profile.plan(profile.requests_after), on_outcome)
    return counts, await sender.problems(counts)


def _alter_a_balance(settings: Settings, print_line: Callable[[str], None]) -> None:
    """Change a live balance without a record, which is a violation."""
    user_id = PROFILES[0].user_ids[0]
    name = keys.account(user_id, settings.shard_count)
    with Redis.from_url(settings.redis_url) as client:
        account = Account.unpack(cast("bytes", client.get(name)))
        client.set(name, replace(account, credits=account.credits + 1).pack())
    print_line(
        f"{BREAK_VARIABLE}: one credit was given to user {user_id} by hand, without a record"
    )


def _read_back(settings: Settings, profile: Profile, counts: LoadCounts) -> _Result:
    """Read the result of a profile. Refusals have no rows, so the client counts them."""
    rows = count_rows(settings, profile.user_ids)
    with open_stream(settings) as stream:
        live = stream.read_many(profile.user_ids)
    outcome = Outcome(
        requests=rows.allowed + counts.refused + counts.unknown,
        allowed=rows.allowed,
        refused=counts.refused + counts.unknown,
        refunded=rows.refunded,
        # A void and its charge are two more rows, of a request that was sent again.
        rows=rows.count - 2 * rows.voided,
        credits=sum(user.credits for user in live.values()),
    )
    return _Result(profile=profile, counts=counts, outcome=outcome)


def _disagreements(results: list[_Result]) -> list[str]:
    wrong = []
    for result in results:
        expected = expected_outcome(result.profile)
        seen = {"allowed": result.counts.allowed, "refunded": result.counts.refunded}
        for name, should in asdict(expected).items():
            for who, found in (("servers", asdict(result.outcome)), ("client", seen)):
                if found.get(name, should) != should:
                    wrong.append(
                        f"{name} of the {result.profile.name}: {found[name]} by the {who}, "
                        f"but should be {should}"
                    )
    return wrong


def _show(results: list[_Result], proof: Proof, elapsed_s: float) -> None:
    table = Table(
        title="What happened, as read back from Redis and Postgres",
        box=box.SIMPLE,
        padding=(0, 1, 0, 0),
    )
    table.show_footer = True
    table.add_column("who", "all", no_wrap=True)
    table.add_column(
        "users", f"{sum(result.profile.users for result in results):,}", justify="right"
    )
    columns = [field.name for field in fields(Outcome)]
    for name in columns:
        total = sum(getattr(result.outcome, name) for result in results)
        table.add_column(name, f"{total:,}", justify="right")
    for result in results:
        numbers = [result.profile.users, *(getattr(result.outcome, name) for name in columns)]
        table.add_row(result.profile.name, *(f"{number:,}" for number in numbers))
    Console().print(table)
    print(
        f"rows {proof.rows.count:,}   users with rows {proof.rows.users:,}"
        f"   live credits {proof.live_credits:,}   durable credits {proof.rows.credits:,}\n"
        f"pending {proof.pending}   dead letters {proof.dead_letters}"
        f"   users with drift {proof.drift_users}   {elapsed_s:.1f} s"
    )
