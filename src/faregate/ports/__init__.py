"""The interfaces that the use cases need. Adapters implement them by shape.

A port is either async, for requests, or sync, for workers and operators.
"""

from faregate.ports.drift import Known, LedgerSum, Snapshot, Snapshots
from faregate.ports.durable import (
    Accounts,
    ApiKeyAdmin,
    ApiKeys,
    Audit,
    Deletions,
    History,
    LedgerAdmin,
    Orders,
    Stored,
    TransactionArchive,
)
from faregate.ports.journal import Journal, JournalFile, JournalLine
from faregate.ports.live import (
    Credits,
    HoldSweeper,
    Installer,
    Ledger,
    LiveAccounts,
    LiveBalances,
    Unfinished,
)
from faregate.ports.pending import (
    ROW_COLUMNS,
    Batch,
    Copy,
    Cursor,
    ShardRecords,
    StreamEntry,
    TransactionStream,
    UserKeys,
)

__all__ = [
    "ROW_COLUMNS",
    "Accounts",
    "ApiKeyAdmin",
    "ApiKeys",
    "Audit",
    "Batch",
    "Copy",
    "Credits",
    "Cursor",
    "Deletions",
    "History",
    "HoldSweeper",
    "Installer",
    "Journal",
    "JournalFile",
    "JournalLine",
    "Known",
    "Ledger",
    "LedgerAdmin",
    "LedgerSum",
    "LiveAccounts",
    "LiveBalances",
    "Orders",
    "ShardRecords",
    "Snapshot",
    "Snapshots",
    "Stored",
    "StreamEntry",
    "TransactionArchive",
    "TransactionStream",
    "Unfinished",
    "UserKeys",
]
