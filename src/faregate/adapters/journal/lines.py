"""The lines of a journal: JSON, so that people can read them, each with a checksum of itself.

    {"checksum":"0f3c9a1e","line":{"do":"entry","attempt":"0198...","user":"...","cost":2,...}}

The checksum is the CRC-32 of the bytes of `line`. It finds damage by a crash or a disk. It does not
authenticate a line: the mode of the file must keep others from writing.
"""

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID
from zlib import crc32

from faregate.domain.errors import FaregateError
from faregate.domain.idempotency import SavedKey
from faregate.domain.journal import JournalChange, JournalEntry
from faregate.domain.period import Period, PeriodKind
from faregate.domain.policy import Allowance
from faregate.domain.transaction import CreditTransactionId
from faregate.ports import JournalLine

_HEAD = b'{"checksum":"'
_MIDDLE = b'","line":'
_TAIL = b"}\n"
_BODY_START = len(_HEAD) + 8 + len(_MIDDLE)
#: Made once, since `json.dumps` with an option makes a new encoder for each value.
_JSON = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":"))
#: RecursionError: the metadata nest deeper than this process can follow.
_UNREADABLE = (ValueError, KeyError, TypeError, FaregateError, RecursionError)


def encode(line: JournalEntry | JournalChange) -> bytes:
    """Return a line with its checksum, as bytes."""
    plain = _plain_entry(line) if isinstance(line, JournalEntry) else _plain_change(line)
    return _sealed(_JSON.encode(plain).encode())


def _sealed(body: bytes) -> bytes:
    return b"".join((_HEAD, f"{crc32(body):08x}".encode(), _MIDDLE, body, _TAIL))


def decode(number: int, text: bytes) -> JournalLine:
    """Read a line. A line that cannot be read has its error in `problem`."""
    body = text[_BODY_START : -len(_TAIL)]
    if text != _sealed(body):
        return JournalLine(number=number, content=None, problem="its checksum is wrong")
    try:
        plain = json.loads(body)
        content = _entry(plain) if plain["do"] == "entry" else _change(plain)
    except _UNREADABLE as error:
        return JournalLine(number=number, content=None, problem=f"it cannot be read: {error!r}")
    return JournalLine(number=number, content=content)


def _plain_entry(entry: JournalEntry) -> dict[str, object]:
    plain: dict[str, object] = {
        "do": "entry",
        "attempt": str(entry.attempt_id),
        "user": str(entry.user_id),
        "cost": entry.cost,
        "unlimited": entry.is_unlimited,
        "description": entry.description,
        "metadata": entry.metadata,
        "asked_at_ms": entry.asked_at_ms,
        "deadline_ms": entry.deadline_ms,
        "served_at_ms": entry.served_at_ms,
        "served": entry.is_served,
        "may_be_charged": entry.may_be_charged,
        "expires_at_ms": entry.expires_at_ms,
    }
    if entry.allowance is not None:
        period = entry.allowance.period
        plain["allowance"] = {
            "amount": entry.allowance.amount,
            "rollover_max": entry.allowance.rollover_max,
            "period": str(period.kind),
            "length_ms": period.length_ms,
        }
    if entry.key is not None:
        plain["key"] = {
            "key": entry.key.key_digest.hex(),
            "fingerprint": entry.key.fingerprint_digest.hex(),
            "lifetime_ms": entry.key.lifetime_ms,
            "lease_ms": entry.key.lease_ms,
            "keys_max": entry.key.keys_max,
        }
    return plain


def _entry(plain: Mapping[str, Any]) -> JournalEntry:
    return JournalEntry(
        attempt_id=CreditTransactionId.parse(plain["attempt"]),
        user_id=UUID(plain["user"]),
        cost=plain["cost"],
        is_unlimited=plain["unlimited"],
        description=plain["description"],
        metadata=plain["metadata"],
        asked_at_ms=plain["asked_at_ms"],
        deadline_ms=plain["deadline_ms"],
        served_at_ms=plain["served_at_ms"],
        is_served=plain["served"],
        may_be_charged=plain["may_be_charged"],
        expires_at_ms=plain["expires_at_ms"],
        allowance=_allowance(plain.get("allowance")),
        key=_key(plain.get("key")),
    )


def _allowance(plain: Mapping[str, Any] | None) -> Allowance | None:
    if plain is None:
        return None
    period = Period(kind=PeriodKind(plain["period"]), length_ms=plain["length_ms"])
    return Allowance(amount=plain["amount"], period=period, rollover_max=plain["rollover_max"])


def _key(plain: Mapping[str, Any] | None) -> SavedKey | None:
    if plain is None:
        return None
    return SavedKey(
        key_digest=bytes.fromhex(plain["key"]),
        fingerprint_digest=bytes.fromhex(plain["fingerprint"]),
        lifetime_ms=plain["lifetime_ms"],
        lease_ms=plain["lease_ms"],
        keys_max=plain["keys_max"],
    )


def _plain_change(change: JournalChange) -> dict[str, object]:
    return {
        "do": "change",
        "attempt": str(change.attempt_id),
        "user": str(change.user_id),
        "refund": None if change.refund_id is None else str(change.refund_id),
        "amount": change.amount,
        "cost": change.cost,
        "expires_at_ms": change.expires_at_ms,
    }


def _change(plain: Mapping[str, Any]) -> JournalChange:
    refund_id = plain["refund"]
    return JournalChange(
        attempt_id=CreditTransactionId.parse(plain["attempt"]),
        user_id=UUID(plain["user"]),
        refund_id=None if refund_id is None else CreditTransactionId.parse(refund_id),
        amount=plain["amount"],
        cost=plain["cost"],
        expires_at_ms=plain["expires_at_ms"],
    )
