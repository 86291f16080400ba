"""Reports of gates about answers that Redis has lost, as they lie in Redis.

After a failover a gate writes into `Shard.lost` which of its newest decisions are missing from the
stream. The worker moves these reports to Postgres.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self
from uuid import UUID

from faregate.adapters.redis.layouts import ID_BYTES, LOST, VERSION
from faregate.domain.errors import LedgerCorruptError

#: The length of the id of a gate, in bytes.
GATE_BYTES = 8
#: The most ids in one report, which has at most 64 KB.
LOST_IDS_MAX = 4_095

_IS_AT_LEAST = 1


@dataclass(frozen=True, slots=True)
class LostReport:
    """The lost answers of one gate in one shard."""

    #: A random id that the gate has for its life.
    gate: bytes
    #: The position of the first entry that is missing.
    position: str
    #: The ids of the transactions of all missing entries, each once.
    ids: Sequence[UUID]
    #: Whether more may be lost, since the oldest entry that the gate remembers is missing, too.
    is_at_least: bool = False

    @property
    def field(self) -> bytes:
        """Its field in the hash of its shard: one for each gate and fork."""
        return self.gate + self.position.encode()

    def pack(self) -> bytes:
        """Return its value in the hash of its shard.

        Raises:
            ValueError: It has more than `LOST_IDS_MAX` ids.
        """
        if len(self.ids) > LOST_IDS_MAX:
            raise ValueError(f"{len(self.ids)} ids do not fit into a report")
        flags = _IS_AT_LEAST if self.is_at_least else 0
        return LOST.pack(VERSION, flags) + b"".join(one.bytes for one in self.ids)

    @classmethod
    def unpack(cls, field: bytes, value: bytes) -> Self:
        """Read a report.

        Raises:
            LedgerCorruptError: It was overwritten, or is of another version.
        """
        flags, ids = value[1:2], value[LOST.size :]
        is_known = value[:1] == bytes((VERSION,)) and flags in {b"\0", bytes((_IS_AT_LEAST,))}
        gate, position = field[:GATE_BYTES], field[GATE_BYTES:]
        first, _, second = position.partition(b"-")
        if not (is_known and first.isdigit() and second.isdigit()) or len(ids) % ID_BYTES:
            raise LedgerCorruptError("a report of lost answers cannot be read")
        found = (UUID(bytes=ids[at : at + ID_BYTES]) for at in range(0, len(ids), ID_BYTES))
        return cls(gate, position.decode(), tuple(found), flags != b"\0")
