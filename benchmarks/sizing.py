"""What a ledger of some size needs: arithmetic, without a server and without a file.

A call of Redis costs a fixed time and a time for each spend in it, and so do its bytes: a `Line`.
On a cluster each call has one shard. A process sends all that has come meanwhile as one flight to
each primary, so a flight has few spends of a shard where processes, primaries or shards are many.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil, inf
from typing import Self

DAY_S = 86_400
YEAR_DAYS = 365
#: The disk of one Postgres, which is the end of a ledger. It is chosen, not measured.
DISK_BYTES_MAX = 20e12
#: How many spends a flight has at most, how many share one rather than leave in several, and how
#: many flights of a process to one primary are out at once: those of the lane.
FLIGHT_MAX, FLIGHT_MIN, FLIGHTS_MAX = 128, 32, 3


@dataclass(frozen=True, slots=True)
class Line:
    """A cost a spend: that of each spend, and its share of that of the call."""

    each: float
    call: float

    def at(self, call_spends: float) -> float:
        """Return the cost of a spend in calls of this size."""
        return self.each + self.call / call_spends

    @classmethod
    def through(cls, points: Mapping[float, float]) -> Self:
        """Return the line that fits costs by their sizes of calls best.

        Errors count by their share of a cost, since a large cost is measured no better than a small
        one. No part is below zero.
        """
        found = [(1 / size, cost, 1 / cost**2) for size, cost in points.items()]
        total = sum(weight for *_, weight in found)
        x_mean = sum(x * weight for x, _, weight in found) / total
        y_mean = sum(y * weight for _, y, weight in found) / total
        above = sum((x - x_mean) * (y - y_mean) * weight for x, y, weight in found)
        below = sum((x - x_mean) ** 2 * weight for x, _, weight in found)
        call = max(0.0, above / below) if below else 0.0
        return cls(max(0.0, y_mean - call * x_mean), call)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The inputs. Processor times are microseconds of one processor."""

    #: Of Redis, and of the process that asks, a decision.
    redis_us: Line
    client_us: Line
    #: Bytes a decision: of the log, which goes to each replica; received and sent by Redis.
    log_bytes: Line
    received_bytes: Line
    sent_bytes: Line
    #: Of Redis.
    account_bytes: float
    record_bytes: float
    #: Of an app without a gate, a request.
    app_us: float
    #: Of a worker, a row.
    row_us: float
    #: Of Postgres: a row with its indexes, and its leaf.
    row_bytes: float
    leaf_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a ledger is to do."""

    #: At the busiest time of the day.
    decisions_a_s: float
    rows_a_day: float
    users: float
    shards: int
    #: The busiest second over the mean of the day.
    peak: float = 3.0
    #: How busy a processor may be, as a share.
    busy: float = 0.6
    #: How long a request waits for others: a turn of the event loop of a busy process.
    turn_ms: float = 1.0
    #: How long Postgres may be away.
    outage_s: float = 3_600.0
    #: How long records stay after they became rows (`FAREGATE_STORED_MS`), and how many of a shard
    #: stay so long; the others leave after `stored_s_min`.
    stored_s: float = 600.0
    stored_max: float = 500_000
    stored_s_min: float = 90.0
    #: How many records of a shard may wait (`FAREGATE_PENDING_MAX`).
    pending_max: float = 500_000

    @property
    def rows_a_s(self) -> float:
        """Rows a second at the busiest time; no more than there are decisions."""
        return min(self.decisions_a_s, self.peak * self.rows_a_day / DAY_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """What that takes."""

    #: Processes of the API, by the app's processor time alone.
    processes: int
    #: Primaries; as many replicas for one of each, and the shards of the fullest one.
    primaries: int
    node_shards: int
    call_spends: float
    redis_us: float
    #: Of each primary.
    node_bytes: float
    node_bytes_a_s: float
    #: Until a shard is full, while Postgres is away.
    outage_s_max: float
    workers: int
    rows_a_s: float
    disk_bytes_a_day: float

    @property
    def disk_bytes_a_year(self) -> float:
        """Of Postgres, with indexes and leaves."""
        return self.disk_bytes_a_day * YEAR_DAYS


def call_spends(flight: float, node_shards: float) -> float:
    """Return how many spends a call has, if a flight's spends fall on shards at random.

    Args:
        flight: The spends of one write to a primary.
        node_shards: The shards of that primary.
    """
    flight, node_shards = max(1.0, flight), max(1.0, node_shards)
    if node_shards == 1:
        return flight
    missed = float((1 - 1 / node_shards) ** flight)
    return flight / (node_shards * (1 - missed))


def closed_flight(callers: float, primaries: int) -> float:
    """Return the spends of a flight on a cluster, if callers of one process ask without a pause.

    The answers of a flight come call by call, so one half of the callers asks while the other one
    waits. Where these are too many for that, three flights are out and one is being filled.
    """
    waiting = callers / primaries
    parts = min(FLIGHTS_MAX + 1, max(2, waiting / FLIGHT_MIN))
    return max(1.0, min(FLIGHT_MAX, waiting / parts))


def processes(measured: Measured, wanted: Wanted) -> int:
    """Return how many processes of the app there are, each on one processor.

    Each call counts as one of a single spend, which is no less than it will take.
    """
    request_us = measured.app_us + measured.client_us.at(1)
    return max(1, ceil(wanted.decisions_a_s * request_us / (1e6 * wanted.busy)))


def spends_on(measured: Measured, wanted: Wanted, primaries: int) -> float:
    """Return how many spends a call has on so many primaries."""
    asking = processes(measured, wanted)
    flight = wanted.decisions_a_s / asking / primaries * wanted.turn_ms / 1_000
    return call_spends(min(flight, FLIGHT_MAX), wanted.shards / primaries)


def primaries_for(measured: Measured, wanted: Wanted) -> int | None:
    """Return how many primaries are busy enough; None if there are too few shards for that."""
    for count in range(1, wanted.shards + 1):
        # The primary with the most shards is the busiest one.
        share = ceil(wanted.shards / count) / wanted.shards
        cost_us = measured.redis_us.at(spends_on(measured, wanted, count))
        if wanted.decisions_a_s * share * cost_us <= 1e6 * wanted.busy:
            return count
    return None


def needed_for(measured: Measured, wanted: Wanted) -> Needed | None:
    """Return what a ledger takes; None if it has too few shards."""
    count = primaries_for(measured, wanted)
    if count is None:
        return None
    spends = spends_on(measured, wanted, count)
    node_shards = ceil(wanted.shards / count)
    share = node_shards / wanted.shards
    traffic = sum(
        line.at(spends)
        for line in (measured.received_bytes, measured.sent_bytes, measured.log_bytes)
    )
    return Needed(
        processes=processes(measured, wanted),
        primaries=count,
        node_shards=node_shards,
        call_spends=spends,
        redis_us=measured.redis_us.at(spends),
        node_bytes=wanted.users * share * measured.account_bytes
        + node_shards * _records(wanted) * measured.record_bytes,
        node_bytes_a_s=wanted.decisions_a_s * share * traffic,
        outage_s_max=_outage_s_max(wanted),
        workers=max(1, ceil(wanted.rows_a_s * measured.row_us / (1e6 * wanted.busy))),
        rows_a_s=wanted.rows_a_s,
        disk_bytes_a_day=wanted.rows_a_day * (measured.row_bytes + measured.leaf_bytes),
    )


def _records(wanted: Wanted) -> float:
    """Return how many records a shard holds: those of rows, and those of an outage of Postgres."""
    rate = wanted.rows_a_s / wanted.shards
    stored = min(rate * wanted.stored_s, max(wanted.stored_max, rate * wanted.stored_s_min))
    return stored + min(rate * wanted.outage_s, wanted.pending_max)


def _outage_s_max(wanted: Wanted) -> float:
    rate = wanted.rows_a_s / wanted.shards
    return wanted.pending_max / rate if rate else inf


def used_shares(measured: Measured, wanted: Wanted) -> Mapping[str, float]:
    """Return how much of each bound of one ledger is used; the largest share breaks first.

    A share of 2 means that the bound is reached at half of what is wanted, or that two ledgers are
    needed.
    """
    redis_us = measured.redis_us.at(spends_on(measured, wanted, wanted.shards))
    row_bytes = measured.row_bytes + measured.leaf_bytes
    return {
        "a year on disk": wanted.rows_a_day * YEAR_DAYS * row_bytes / DISK_BYTES_MAX,
        "one worker's time": wanted.rows_a_s * measured.row_us / (1e6 * wanted.busy),
        "a primary for each shard": wanted.decisions_a_s
        * redis_us
        / (1e6 * wanted.busy * wanted.shards),
        "an hour without Postgres": wanted.outage_s / _outage_s_max(wanted),
    }


def divided(wanted: Wanted, ledgers: int) -> Wanted:
    """Return what each of some ledgers is to do, if users are shared out evenly."""
    return replace(
        wanted,
        decisions_a_s=wanted.decisions_a_s / ledgers,
        rows_a_day=wanted.rows_a_day / ledgers,
        users=wanted.users / ledgers,
    )
