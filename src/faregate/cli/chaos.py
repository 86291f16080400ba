"""Kills owners of holds between hold and settlement, by SIGKILL, like a crash or a deployment.

    sender ──> short-lived API: takes a batch of holds ──> all of them are open ──> SIGKILL

The requests of a batch go to an API of their own, so that no other request dies with it. It is the
program that serves the others, too. It works on each request for longer than any client waits, and
is killed once it owns a hold for every request of its batch. Then nobody can settle these holds,
and the worker has to give them back.
"""

import asyncio
import signal
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import islice

from faregate.bootstrap import open_sweeper
from faregate.cli.http_client import HttpConnection, RequestFailedError
from faregate.cli.load import LoadCounts, PlannedRequest, Sender, read_state
from faregate.cli.stack import Api, Stack, broken
from faregate.domain.errors import LedgerUnavailableError

CHECK_S = 0.05


async def send_and_kill(
    stack: Stack,
    requests: Iterable[PlannedRequest],
    batch_size: int,
    on_outcome: Callable[[], None],
) -> tuple[LoadCounts, list[str]]:
    """Send requests to APIs that are killed, a batch to each.

    Returns:
        The counts of the requests, and a sentence for each problem.

    Raises:
        EmbeddedServerError: An API ended before it was killed.
    """
    left = iter(requests)
    counts = LoadCounts()
    problems: list[str] = []
    while batch := list(islice(left, batch_size)):
        with stack.short_lived_api() as api:
            seen, wrong = await _Batch(stack, api, batch, on_outcome).run()
        counts += seen
        problems += wrong
    return counts, problems


class _Batch:
    """Requests that are sent together, and the API that owns their holds."""

    def __init__(
        self,
        stack: Stack,
        api: Api,
        requests: Sequence[PlannedRequest],
        on_outcome: Callable[[], None],
    ) -> None:
        self._stack = stack
        self._api = api
        self._requests = requests
        self._on_outcome = on_outcome
        #: How many requests have ended; before the kill, those without a hold.
        self._done = 0

    async def run(self) -> tuple[LoadCounts, list[str]]:
        sender = Sender(
            *self._api.address, concurrency=len(self._requests), refund_statuses=frozenset()
        )
        sending = asyncio.create_task(sender.send_all(self._requests, self._note_outcome))
        try:
            owned = await self._all_locked()
            self._api.child.kill()
            counts = await sending
        finally:
            sending.cancel()
        self._print_killed(owned)
        # Requests of a killed owner fail, as intended.
        killed = replace(counts, killed=counts.failed, failed=0, failures=[])
        return killed, self._problems(killed, owned)

    def _note_outcome(self) -> None:
        self._done += 1
        self._on_outcome()

    async def _all_locked(self) -> frozenset[str]:
        """Wait until each request has a hold or its outcome; return the ids of the holds."""
        async with HttpConnection(*self._api.address) as connection:
            while True:
                try:
                    state = await read_state(connection)
                except RequestFailedError as error:
                    raise broken(self._api.child) from error
                # A pending void may belong to a hold that was made, so it must not be lost.
                if len(state.owned) + self._done >= len(self._requests) and not state.waiting:
                    return frozenset(state.owned)
                await asyncio.sleep(CHECK_S)

    def _print_killed(self, owned: frozenset[str]) -> None:
        """Print how many of its holds are open, now that nobody can settle them."""
        try:
            with open_sweeper(self._stack.settings) as sweeper:
                open_count = str(len(owned & set(map(str, sweeper.open_holds()))))
        except LedgerUnavailableError:
            # Redis may be killed, too; the proof at the end covers the holds.
            open_count = "nobody knows how many"
        self._stack.print_line(
            f"{self._name} killed: {open_count} of its {len(owned)} holds are open"
        )

    def _problems(self, counts: LoadCounts, owned: frozenset[str]) -> list[str]:
        found = []
        if self._api.child.exit_status != -signal.SIGKILL:
            status = self._api.child.exit_status
            found.append(f"{self._name} was not killed: it ended with status {status}")
        if counts.killed != len(owned):
            unanswered = f"{counts.killed} requests unanswered"
            found.append(f"{self._name} left {unanswered}, but owned {len(owned)} holds")
        return found

    @property
    def _name(self) -> str:
        return f"{self._api.child.program.name} pid {self._api.child.pid}"
