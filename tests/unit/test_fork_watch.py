"""The search for forks: a shard that fails delays no other."""

from typing import Any

import pytest

from faregate.domain.errors import LedgerUnavailableError, ShardBlockedError
from faregate.ports import Cursor, ReportedAnswers
from faregate_worker import forks
from faregate_worker.forks import ForkWatch

CURSOR = Cursor(number=1, epoch=1, position="1-1", digest=bytes(32), ordinal=1)
REPORTS = [
    ReportedAnswers(shard=shard, epoch=1, report="00", ids=(), is_at_least=False)
    for shard in range(3)
]


class Parts:
    """All ports of the watch. Shard 0 is locked in Postgres, and its node deletes nothing."""

    def __init__(self) -> None:
        self.rewound: list[int] = []
        self.stored: list[int] = []
        self.forgotten: list[int] = []
        self.steps = 0

    def identity_fields(self) -> dict[str, str]:
        return {"ledger": "one"}

    def cursors(self) -> dict[int, Cursor]:
        return dict.fromkeys(range(3), CURSOR)

    def lacking(self, cursors: dict[int, Cursor]) -> list[int]:
        return list(cursors)

    def rewind(self, _stream: object, _archive: object, shard: int, _cursor: Cursor) -> None:
        if shard == 0:
            raise ShardBlockedError("locked")
        self.rewound.append(shard)

    def read(self) -> list[ReportedAnswers]:
        return REPORTS

    def store(self, answers: ReportedAnswers) -> int:
        self.stored.append(answers.shard)
        return 0

    def forget(self, answers: ReportedAnswers) -> None:
        if answers.shard == 0:
            raise LedgerUnavailableError("NOREPLICAS")
        self.forgotten.append(answers.shard)

    def step(self) -> bool:
        self.steps += 1
        return False


def test_a_shard_that_fails_delays_neither_others_nor_alignments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its first failure is told when all else is done."""
    parts: Any = Parts()
    monkeypatch.setattr(forks, "rewind", parts.rewind)
    monkeypatch.setattr(forks, "require_same_ledger", lambda *_: None)
    watch = ForkWatch(parts, parts, parts, parts, parts)
    with pytest.raises(ShardBlockedError):
        watch.step()
    assert (parts.rewound, parts.stored, parts.forgotten) == ([1, 2], [0, 1, 2], [1, 2])
    assert parts.steps == 1
