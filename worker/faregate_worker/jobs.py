"""The jobs that RQ runs, by dotted path and with JSON arguments, each in a process of its own.

A job keeps nothing: it builds its parts, does a bounded amount of work and lets go of them. It
never asks RQ for a retry, because whatever it leaves behind is found pending by the next tick.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from faregate.bootstrap import open_archive, open_stream, open_sweeper
from faregate.config import Settings, read_settings
from faregate.domain.errors import ArchiveUnavailableError, LedgerError
from faregate_worker.drain import DrainLimits, drain, require_same_ledger

#: How long a job lingers after a failure. Its records stay pending, so without this pause an
#: outage would be met by a new job as fast as processes can be forked.
FAILURE_PAUSE_SECONDS = 1.0

_logger = logging.getLogger(__name__)


def drain_shard(shard: int, seconds_max: float) -> None:
    """Drain one shard until it is idle or `seconds_max` have passed."""
    settings = read_settings()
    limits = DrainLimits(batch_size_max=settings.batch_size_max, seconds_max=seconds_max)
    with _paced(), open_stream(settings) as stream, open_archive(settings) as archive:
        require_same_ledger(stream, archive)
        drained = drain(stream, archive, shard, limits=limits)
        # A busy worker drains many times a second, so only what wants an eye is logged as a rule.
        _logger.log(
            logging.WARNING if drained.dead_letters else logging.DEBUG,
            "drained shard=%d read=%d inserted=%d repeated=%d dead_letters=%d trimmed=%d",
            shard,
            drained.read,
            drained.inserted,
            drained.repeated,
            drained.dead_letters,
            drained.trimmed,
        )


def trim_shards() -> None:
    """Delete what was stored long ago from every shard: an idle one has no drain that would."""
    settings = read_settings()
    with _paced(), open_stream(settings) as stream, open_archive(settings) as archive:
        cursors = archive.cursors()
        trimmed = sum(stream.note_stored(shard, cursor) for shard, cursor in cursors.items())
        if trimmed:
            _logger.info("trimmed entries=%d", trimmed)


def sweep_holds(seconds_max: float) -> None:
    """Give back or keep holds whose owners did not end them, until none is due or time is up."""
    ends_at = time.monotonic() + seconds_max
    settings = read_settings()
    with _paced(), open_sweeper(settings) as sweeper:
        _require_same_ledger_if_known(settings)
        ended = 0
        while shards := sweeper.shards_due():
            swept = sum(sweeper.sweep(shard) for shard in shards)
            ended += swept
            if not swept or time.monotonic() >= ends_at:
                break
        if ended:
            _logger.info("ended expired holds=%d", ended)


def _require_same_ledger_if_known(settings: Settings) -> None:
    """Make sure that Redis is of the ledger of Postgres. While Postgres is away, holds still end.

    Raises:
        ConfigurationError: They are of different ledgers, or the settings are.
    """
    with open_stream(settings) as stream, open_archive(settings) as archive:
        try:
            require_same_ledger(stream, archive)
        except ArchiveUnavailableError as error:
            _logger.warning("holds end unchecked, Postgres is away: %s", error)


@contextmanager
def _paced() -> Iterator[None]:
    """End a job that met an outage quietly, and any job that failed slowly.

    An outage is no failure of the job: were it recorded as one, Redis would fill with them while
    Postgres is away.
    """
    try:
        yield
    except (ArchiveUnavailableError, LedgerError) as error:
        _logger.warning("outage, left pending: %s: %s", type(error).__name__, error)
        time.sleep(FAILURE_PAUSE_SECONDS)
    except Exception:
        time.sleep(FAILURE_PAUSE_SECONDS)
        raise
