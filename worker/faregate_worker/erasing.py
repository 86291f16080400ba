"""Erases deleted users, in a thread of the ticker, which lives as long as its worker.

A job would be too short: with many keys in Redis, a scan takes longer than a job may last, and the
next job would begin again.
"""

from faregate.bootstrap import open_archive, open_stream
from faregate.config import Settings
from faregate.ops.erasure import DELETIONS_INTERVAL_S, Erasure
from faregate_worker.drain import require_same_ledger
from faregate_worker.runtime import Stop, repeat


def run_erasures(settings: Settings, stop: Stop) -> None:
    """Erase users until a stop is requested."""
    with open_stream(settings) as stream, open_archive(settings) as archive:
        erasure = Erasure(stream.user_keys, archive)

        def check_deletions() -> bool:
            # Before the first API has started, Redis holds no identity, and no users.
            if stream.identity_fields():
                require_same_ledger(stream, archive)
                erasure.check_deletions()
            return False

        repeat(check_deletions, stop, DELETIONS_INTERVAL_S, failure="deleted users not erased")
