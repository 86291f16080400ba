"""Faregate: credits for API calls, charged atomically in Redis and recorded in Postgres."""

from faregate.bootstrap import build_api_keys, build_gate, build_sync_gate, open_gate
from faregate.config import Settings
from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import FaregateError
from faregate.domain.health import BreakerState, Health
from faregate.domain.hold import Hold, HoldAnswer, HoldState
from faregate.domain.idempotency import KeyState
from faregate.domain.limit import LimitKind, LimitState, RateLimit
from faregate.domain.period import Period, PeriodKind
from faregate.domain.policy import Allowance, CreditPolicy, FailureMode, OnExpiry, PolicySet
from faregate.domain.transaction import CreditTransaction, CreditTransactionId, TransactionType
from faregate.domain.usage import Usage
from faregate.domain.user import User, user_id_of
from faregate.gate import CachedTiers, Gate
from faregate.sync import SyncGate, SyncHoldBlock

__all__ = [
    "Allowance",
    "BreakerState",
    "CachedTiers",
    "CreditPolicy",
    "CreditTransaction",
    "CreditTransactionId",
    "Decision",
    "FailureMode",
    "FaregateError",
    "Gate",
    "Health",
    "Hold",
    "HoldAnswer",
    "HoldState",
    "KeyState",
    "LimitKind",
    "LimitState",
    "OnExpiry",
    "Period",
    "PeriodKind",
    "PolicySet",
    "RateLimit",
    "Settings",
    "SyncGate",
    "SyncHoldBlock",
    "TransactionType",
    "Usage",
    "User",
    "Verdict",
    "build_api_keys",
    "build_gate",
    "build_sync_gate",
    "open_gate",
    "user_id_of",
]
