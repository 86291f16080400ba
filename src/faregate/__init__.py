"""Faregate: credits for API calls, charged atomically in Redis and recorded in Postgres.

The public API is `__all__` of this module and of `faregate.asgi`, `faregate.asgi.identity`,
`faregate.asgi.identity.jwt`, `faregate.wsgi`, `faregate.jobs`, `faregate.metrics`,
`faregate.logs`, `faregate.testing` and `faregate.cli.servers`. Other modules may change in any
release.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

from faregate.domain.api_key import ApiKey, StoredApiKey
from faregate.domain.decision import Decision, Verdict
from faregate.domain.durability import Durability
from faregate.domain.errors import (
    AmountError,
    ArchiveUnavailableError,
    ConfigurationError,
    EmbeddedServerError,
    FaregateError,
    HiddenRowsError,
    IdentityAnswerError,
    IdentityUnavailableError,
    InvalidArgumentError,
    JournalError,
    LedgerCorruptError,
    LedgerError,
    LedgerUnavailableError,
    LedgerUninitialisedError,
    MigrationError,
    NodeUnavailableError,
    OutcomeUnknownError,
    SchemaDiffersError,
    ShardBlockedError,
    StandbyError,
    TransactionConflictError,
    TransactionIdError,
    UnfitDatabaseError,
    UnknownTierError,
    UnresolvedError,
)
from faregate.domain.health import BreakerState, CallCounts, Health, JournalState, LaneHealth
from faregate.domain.histogram import Histogram
from faregate.domain.history import HistoryPage, HistoryPlace, HistoryRow
from faregate.domain.hold import Hold, HoldAnswer, HoldState
from faregate.domain.idempotency import KeyState
from faregate.domain.limit import LimitKind, LimitState, RateLimit
from faregate.domain.obstacle import Obstacle, ObstacleKind
from faregate.domain.period import Period, PeriodKind
from faregate.domain.policy import (
    Allowance,
    BreakerOptions,
    CreditPolicy,
    FailureMode,
    GateOptions,
    OnExpiry,
    PolicySet,
)
from faregate.domain.transaction import CreditTransaction, CreditTransactionId, TransactionType
from faregate.domain.usage import Usage
from faregate.domain.user import User, user_id_of
from faregate.gate import CachedTiers, ChargeOptions, CreditOptions, Gate, HoldBlock, TierOf
from faregate.ports import ApiKeys
from faregate.sync import SyncGate, SyncHoldBlock

if TYPE_CHECKING:
    __version__: str
    from faregate.bootstrap import build_api_keys, build_gate, build_sync_gate, migrate, open_gate
    from faregate.cli.servers import EmbeddedServers
    from faregate.config import Environment, LogFormat, Settings
else:
    # Settings, and the clients of Redis and Postgres, take most of the time of an import. They are
    # imported at the first use of these names, so that an app's tests need none of them.
    _DEFERRED = {
        "build_api_keys": "faregate.bootstrap",
        "build_gate": "faregate.bootstrap",
        "build_sync_gate": "faregate.bootstrap",
        "migrate": "faregate.bootstrap",
        "open_gate": "faregate.bootstrap",
        "EmbeddedServers": "faregate.cli.servers",
        "Environment": "faregate.config",
        "LogFormat": "faregate.config",
        "Settings": "faregate.config",
    }

    def __getattr__(name: str) -> object:
        if name == "__version__":
            return version(__name__)
        if name not in _DEFERRED:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_DEFERRED[name]), name)

    def __dir__() -> list[str]:
        return __all__


__all__ = [
    "Allowance",
    "AmountError",
    "ApiKey",
    "ApiKeys",
    "ArchiveUnavailableError",
    "BreakerOptions",
    "BreakerState",
    "CachedTiers",
    "CallCounts",
    "ChargeOptions",
    "ConfigurationError",
    "CreditOptions",
    "CreditPolicy",
    "CreditTransaction",
    "CreditTransactionId",
    "Decision",
    "Durability",
    "EmbeddedServerError",
    "EmbeddedServers",
    "Environment",
    "FailureMode",
    "FaregateError",
    "Gate",
    "GateOptions",
    "Health",
    "HiddenRowsError",
    "Histogram",
    "HistoryPage",
    "HistoryPlace",
    "HistoryRow",
    "Hold",
    "HoldAnswer",
    "HoldBlock",
    "HoldState",
    "IdentityAnswerError",
    "IdentityUnavailableError",
    "InvalidArgumentError",
    "JournalError",
    "JournalState",
    "KeyState",
    "LaneHealth",
    "LedgerCorruptError",
    "LedgerError",
    "LedgerUnavailableError",
    "LedgerUninitialisedError",
    "LimitKind",
    "LimitState",
    "LogFormat",
    "MigrationError",
    "NodeUnavailableError",
    "Obstacle",
    "ObstacleKind",
    "OnExpiry",
    "OutcomeUnknownError",
    "Period",
    "PeriodKind",
    "PolicySet",
    "RateLimit",
    "SchemaDiffersError",
    "Settings",
    "ShardBlockedError",
    "StandbyError",
    "StoredApiKey",
    "SyncGate",
    "SyncHoldBlock",
    "TierOf",
    "TransactionConflictError",
    "TransactionIdError",
    "TransactionType",
    "UnfitDatabaseError",
    "UnknownTierError",
    "UnresolvedError",
    "Usage",
    "User",
    "Verdict",
    "__version__",
    "build_api_keys",
    "build_gate",
    "build_sync_gate",
    "migrate",
    "open_gate",
    "user_id_of",
]
