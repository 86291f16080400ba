"""What all scenarios have in common: a plan, servers, and samples."""

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from benchmarks.internals import install_users
from benchmarks.load import Load
from benchmarks.processes import Talker, talker
from benchmarks.servers import Place, Servers
from benchmarks.users import user_ids

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is measured."""

    rounds: int
    seconds: float
    is_quick: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One measurement. Samples of one round and case are measured beside each other."""

    scenario: str
    #: What is the same for all variants, such as the number of callers.
    case: str
    variant: str
    round: int
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A load on a target, and what it is called in tables."""

    case: str
    variant: str
    target: str
    load: Load


def rotated(things: Sequence[T], number: int) -> Sequence[T]:
    """Return all things, beginning with another one for each number."""
    shift = number % len(things)
    return (*things[shift:], *things[:shift])


class Bench:
    """One run."""

    def __init__(self, plan: Plan, servers: Servers) -> None:
        self.plan = plan
        self.servers = servers
        self._began_at_s = time.monotonic()

    def say(self, text: str) -> None:
        """Tell whoever waits."""
        print(f"{time.monotonic() - self._began_at_s:6.0f} s  {text}", file=sys.stderr, flush=True)

    @contextmanager
    def clients(self, place: Place, targets: Sequence[str]) -> Iterator[Mapping[str, Talker]]:
        """Start a process for each target; the first gate of a place attaches the ledger."""
        with ExitStack() as opened:
            yield {
                name: opened.enter_context(
                    talker("client", name, place.redis_url, place.postgres_url)
                )
                for name in targets
            }

    def side_by_side(self, scenario: str, cells: Sequence[Cell]) -> list[Sample]:
        """Measure cells on one Redis, in turn, each once a round.

        The variants of a case follow each other, and another one is the first in each round; the
        processes that are not asked wait. So what the machine does meanwhile falls on all of them.
        """
        samples: list[Sample] = []
        targets = sorted({cell.target for cell in cells})
        with self.servers.place() as place, self.clients(place, targets) as clients:
            self.install(place, cells)
            for number in range(self.plan.rounds):
                for case in dict.fromkeys(cell.case for cell in cells):
                    beside = [cell for cell in cells if cell.case == case]
                    samples += [
                        self.sample(scenario, cell, clients[cell.target], number)
                        for cell in rotated(beside, number)
                    ]
        return samples

    def sample(self, scenario: str, cell: Cell, client: Talker, number: int) -> Sample:
        """Measure one cell."""
        values = client.ask(asdict(cell.load))
        self.say(
            f"{scenario} {number + 1}: {cell.case}, {cell.variant}: {values['rate']:,.0f}/s,"
            f" p99 {values['p99_ms']} ms {values['errors'] or ''}"
        )
        return Sample(
            scenario=scenario,
            case=cell.case,
            variant=cell.variant,
            round=number,
            values=values | {"load_1_min": round(os.getloadavg()[0], 2)},
        )

    @staticmethod
    def install(place: Place, cells: Sequence[Cell]) -> None:
        """Bring in all users of some cells."""
        for name, count in {(cell.load.users, cell.load.users_count) for cell in cells}:
            install_users(place.redis_url, user_ids(name, count))
