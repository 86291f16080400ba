"""Notices forks, stores lost answers, and aligns balances, in a thread of the ticker.

The drain notices a fork when it reads a shard. After a failover no record may follow for a while,
so this thread compares all cursors with their streams once a second.
"""

import logging
from contextlib import closing

from faregate.adapters.redis.forks import RedisLostAnswers
from faregate.bootstrap import (
    open_accounts,
    open_archive,
    open_forks,
    open_snapshots,
    open_stream,
)
from faregate.config import Settings
from faregate.domain.errors import FaregateError, LedgerUnavailableError, ShardBlockedError
from faregate.ops.forks import Aligning
from faregate.ports import Forks, LostAnswerReports, TransactionArchive, TransactionStream
from faregate_worker.drain import require_same_ledger, rewind
from faregate_worker.runtime import Stop, repeat

#: The interval between two checks, in seconds.
FORKS_INTERVAL_S = 1.0

_logger = logging.getLogger(__name__)


class ForkWatch:
    """Notices forks. Any number of workers may do this at once, and each may be killed."""

    def __init__(
        self,
        stream: TransactionStream,
        archive: TransactionArchive,
        forks: Forks,
        reports: LostAnswerReports,
        aligning: Aligning,
    ) -> None:
        self._stream = stream
        self._archive = archive
        self._forks = forks
        self._reports = reports
        self._aligning = aligning

    def step(self) -> bool:
        """Check all shards once, and align some users; return whether there may be more to align.

        Raises:
            ArchiveUnavailableError, LedgerError: A server does not answer. All was done for shards
                whose servers do.
            ConfigurationError: Redis and Postgres are of different ledgers.
        """
        # Before the first API has started, Redis holds no identity, and nothing was lost.
        if not self._stream.identity_fields():
            return False
        require_same_ledger(self._stream, self._archive)
        failures: list[FaregateError] = []
        self._take_back(failures)
        self._take_reports(failures)
        has_more = self._aligning.step()
        if failures:
            raise failures[0]
        return has_more

    def _take_back(self, failures: list[FaregateError]) -> None:
        """Take back the cursors whose entries Redis has lost; add the failures of shards."""
        cursors = self._archive.cursors()
        for shard in self._stream.lacking(cursors):
            try:
                rewind(self._stream, self._archive, shard, cursors[shard])
            except (LedgerUnavailableError, ShardBlockedError) as error:
                failures.append(error)

    def _take_reports(self, failures: list[FaregateError]) -> None:
        """Move the reports of gates to Postgres; add the failures of shards."""
        for answers in self._reports.read():
            if count := self._forks.store(answers):
                _logger.warning(
                    "answers lost by Redis: shard=%d reported=%d%s",
                    answers.shard,
                    count,
                    " or more" if answers.is_at_least else "",
                )
            try:
                self._reports.forget(answers)
            except LedgerUnavailableError as error:
                failures.append(error)


def run_forks(settings: Settings, stop: Stop) -> None:
    """Notice forks and align balances until a stop is requested."""
    with (
        open_stream(settings) as stream,
        open_archive(settings) as archive,
        open_forks(settings) as forks,
        closing(RedisLostAnswers.from_url(settings.redis_url, settings.shard_count)) as reports,
        open_accounts(settings) as accounts,
        open_snapshots(settings) as snapshots,
    ):
        aligning = Aligning(forks, accounts, stream, snapshots)
        watch = ForkWatch(stream, archive, forks, reports, aligning)
        repeat(watch.step, stop, FORKS_INTERVAL_S, failure="search for forks failed")
