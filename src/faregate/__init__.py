"""Faregate: credits for API calls, charged atomically in Redis and recorded in Postgres."""

from faregate.bootstrap import build_gate, open_gate
from faregate.config import Settings
from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import FaregateError
from faregate.domain.hold import Hold, HoldAnswer, HoldState
from faregate.domain.policy import CreditPolicy, OnExpiry
from faregate.domain.transaction import CreditTransaction, CreditTransactionId, TransactionType
from faregate.domain.user import User, user_id_of
from faregate.gate import Gate

__all__ = [
    "CreditPolicy",
    "CreditTransaction",
    "CreditTransactionId",
    "Decision",
    "FaregateError",
    "Gate",
    "Hold",
    "HoldAnswer",
    "HoldState",
    "OnExpiry",
    "Settings",
    "TransactionType",
    "User",
    "Verdict",
    "build_gate",
    "open_gate",
    "user_id_of",
]
