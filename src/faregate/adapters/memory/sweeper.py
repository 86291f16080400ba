"""Ends holds whose owners did not, in plain dicts."""

from collections.abc import Sequence

from faregate.adapters.memory.holds import MemoryHoldLedger


class MemorySweeper:
    """The port `HoldSweeper` over a `MemoryHoldLedger`."""

    def __init__(self, ledger: MemoryHoldLedger) -> None:
        self._ledger = ledger

    def shards_due(self) -> Sequence[int]:
        """Return the only shard if it has open holds whose time is over."""
        return [0] if self._ledger.due() else []

    def sweep(self, shard: int) -> int:
        """Give back or keep all that is due; see the port."""
        due = self._ledger.due()
        for held in due:
            self._ledger.lapse_if_due(held)
        return len(due)
