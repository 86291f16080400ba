"""The interfaces that the use cases need. Adapters implement them by shape.

A port is either async, for requests, or sync, for workers and operators.
"""

from faregate.ports.archive import Stored, TransactionArchive
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
)
from faregate.ports.forks import DueUser, Forks, LostAnswerReports, ReportedAnswers
from faregate.ports.installing import Installer, Unfinished
from faregate.ports.journal import Journal, JournalFile, JournalLine
from faregate.ports.live import (
    Credits,
    HoldSweeper,
    Ledger,
    LiveAccounts,
    LiveBalances,
    SpendLane,
)
from faregate.ports.pending import (
    ROW_COLUMNS,
    Batch,
    Copy,
    Cursor,
    Fork,
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
    "DueUser",
    "Fork",
    "Forks",
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
    "LostAnswerReports",
    "Orders",
    "ReportedAnswers",
    "ShardRecords",
    "Snapshot",
    "Snapshots",
    "SpendLane",
    "Stored",
    "StreamEntry",
    "TransactionArchive",
    "TransactionStream",
    "Unfinished",
    "UserKeys",
]
