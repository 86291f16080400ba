"""What the use cases need from the outside, as interfaces. Adapters satisfy them by shape.

One colour a port: what answers requests is async, what workers and operators use is sync.
"""

from faregate.ports.durable import (
    Accounts,
    ApiKeyAdmin,
    ApiKeys,
    Audit,
    History,
    Journal,
    JournalFile,
    JournalLine,
    LedgerAdmin,
    Stored,
    TransactionArchive,
)
from faregate.ports.live import HoldSweeper, Ledger, LiveBalances
from faregate.ports.pending import (
    ROW_COLUMNS,
    Batch,
    Cursor,
    StreamEntry,
    TransactionStream,
)

__all__ = [
    "ROW_COLUMNS",
    "Accounts",
    "ApiKeyAdmin",
    "ApiKeys",
    "Audit",
    "Batch",
    "Cursor",
    "History",
    "HoldSweeper",
    "Journal",
    "JournalFile",
    "JournalLine",
    "Ledger",
    "LedgerAdmin",
    "LiveBalances",
    "Stored",
    "StreamEntry",
    "TransactionArchive",
    "TransactionStream",
]
