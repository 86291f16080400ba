"""Reads the table of docs/decisions.md."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import faregate.domain.errors
from faregate.domain.attempt import Event
from faregate.domain.decision import Verdict
from faregate.domain.request import VoidOutcome
from faregate.domain.transaction import TransactionType
from spec.steps import Answer, Done

PAGE = Path(__file__).resolve().parents[2] / "docs" / "decisions.md"
#: The answers of what is done, or was done before. All others are refusals.
DONE = {
    *("allowed", "repeated", "refunded", "refused", "forgotten"),
    *("completed", "found", "renewed"),
}
#: What a step does, where the table has another word for it.
OPERATIONS = {
    "charge": "spend",
    "hold": "spend",
    "cancel": "settle",
    "add": "grant",
    "adjust": "grant",
    "observe": "shadow",
    "sweep": "expire",
}

_CODE = re.compile(r"`([^`]+)`")
_EVENTS = {"ahead": Event.AHEAD, "late": Event.LATE}


@dataclass(frozen=True, slots=True)
class Row:
    """One row: an operation, and one of its answers."""

    operation: str
    #: What the script replies.
    status: str
    #: The error that is raised, if one is.
    error: str
    #: What is written, in words.
    records: str
    #: Whether it cannot hold together with the row above.
    is_apart: bool = False

    @property
    def answer(self) -> Answer:
        """What the ledger answers."""
        if self.status in _EVENTS:
            return _EVENTS[self.status]
        if self.error:
            error: Answer = getattr(faregate.domain.errors, self.error)
            return error
        if self.status == "repeated":
            return Verdict.ALLOWED
        kinds: Iterable[type[Verdict | VoidOutcome | Done]] = (Verdict, VoidOutcome, Done)
        return next(kind(self.status) for kind in kinds if self.status in set(kind))

    def accepts(self, written: Sequence[TransactionType]) -> bool:
        """Say whether the row lets these records be written, in this order."""
        line = "".join(f"{kind}," for kind in written)
        return any(re.fullmatch(_pattern(part), line) for part in self.records.split(";"))


def _pattern(part: str) -> str:
    optional = re.sub(r"\(`(\w+)`\),?", r"(\1,)?", part)
    return re.sub(r"`(\w+)`,?", r"\1,", optional).replace("none", "").replace(" ", "")


def _read() -> list[Row]:
    rows = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith(("| `", "| any ")):
            operation, when, answer, records = (cell.strip() for cell in line.strip("|").split("|"))
            status, *error = _CODE.findall(answer)
            name = (_CODE.findall(operation) or ["any"])[0]
            rows.append(Row(name, status, "".join(error), records, when.endswith("†")))
    return rows


_ROWS = _read()
#: The rows about all operations, by their status, in their order.
ANY = {row.status: row for row in _ROWS if row.operation == "any" and row.error}
#: The rows about one operation, in their order.
TABLE = [row for row in _ROWS if row.operation != "any"]


def refusals(operation: str) -> list[Row]:
    """Return the refusals of an operation, each once, in the order of the table."""
    found: dict[str, Row] = {}
    for row in TABLE:
        if row.operation == operation and row.status not in DONE:
            found.setdefault(row.status, row)
    return list(found.values())
