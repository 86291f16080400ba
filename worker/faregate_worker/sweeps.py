"""Ends expired holds between two rounds of a job, even while Postgres does not answer."""

import logging
from collections.abc import Callable

from faregate.domain.errors import LedgerError, NodeUnavailableError
from faregate.ports import HoldSweeper

#: The interval between two checks for expired holds, in seconds.
SWEEP_INTERVAL_S = 1.0

_logger = logging.getLogger(__name__)


class Sweeps:
    """Ends expired holds. A node of a cluster that does not answer keeps only its own."""

    def __init__(self, sweeper: HoldSweeper, clock: Callable[[], float]) -> None:
        self._sweeper = sweeper
        self._clock = clock
        self._due_at = clock()
        self._has_failed = False

    def sweep(self) -> bool:
        """Sweep once an interval; return whether a hold was ended."""
        if self._clock() < self._due_at:
            return False
        self._due_at = self._clock() + SWEEP_INTERVAL_S
        ended, errors = 0, list[LedgerError]()
        try:
            for shard in self._sweeper.shards_due():
                try:
                    ended += self._sweeper.sweep(shard)
                except NodeUnavailableError as error:
                    errors.append(error)
        except LedgerError as error:
            # A full Redis accepts no record. Pending records are stored all the same.
            errors.append(error)
        for one in errors if not self._has_failed else ():
            _logger.warning("expired holds not ended: %s: %s", type(one).__name__, one)
        self._has_failed = bool(errors)
        if ended:
            _logger.info("expired holds ended: holds=%d", ended)
        return ended > 0
