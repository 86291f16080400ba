"""Ends holds whose owners did not, in plain dicts."""

from collections.abc import Sequence

from faregate.adapters.memory.ledger import MemoryLedger


class MemorySweeper:
    """The port `HoldSweeper` over a `MemoryLedger`."""

    def __init__(self, ledger: MemoryLedger) -> None:
        self._ledger = ledger

    def shards_due(self) -> Sequence[int]:
        """Return the only shard if it has open holds that have expired."""
        return [0] if self._ledger.holds.due() else []

    def sweep(self, shard: int) -> int:
        """Give back or keep all that is due; see the port."""
        due = self._ledger.holds.due()
        for held in due:
            self._ledger.shard.begin()
            self._ledger.holds.expire_if_due(held)
        return len(due)
