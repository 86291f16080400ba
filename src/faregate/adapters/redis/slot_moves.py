"""Detects slots that move between nodes of a cluster while all keys are scanned."""

from typing import Final

from faregate.adapters.redis.client import Client, checked
from faregate.adapters.redis.topology import Node
from faregate.domain.errors import LedgerUnavailableError

#: In a line of CLUSTER NODES: its flags, and from where its slots are listed.
_FLAGS: Final = 2
_SLOTS: Final = slice(8, None)
#: Marks a slot of which keys move to or from another node.
_MOVING: Final = "["


class SlotMoves:
    """The slots of all primaries at the beginning of a scan.

    Keys that move meanwhile may be missed on both nodes.
    """

    def __init__(self, client: Client) -> None:
        """Read the slots; outside of a cluster there are none.

        Raises:
            LedgerUnavailableError: A node does not answer.
        """
        self._client = client
        self._before = self._read()

    def check(self) -> None:
        """Check that no slot has moved.

        Raises:
            LedgerUnavailableError: A slot has moved or is moving: scan again.
        """
        after = self._read()
        is_moving = any(one.startswith(_MOVING) for slots in after.values() for one in slots)
        if is_moving or after != self._before:
            raise LedgerUnavailableError("slots of the cluster moved during a scan of its keys")

    def _read(self) -> dict[Node, tuple[str, ...]]:
        if not self._client.is_cluster:
            return {}
        self._client.update_topology()
        replies = self._client.ask_each("CLUSTER", "NODES")
        return {node: _own_slots(checked(reply).decode()) for node, reply in replies.items()}


def _own_slots(text: str) -> tuple[str, ...]:
    """Return the slots of a node from its answer to CLUSTER NODES."""
    lines = (line.split() for line in text.splitlines())
    return next((tuple(words[_SLOTS]) for words in lines if "myself" in words[_FLAGS]), ())
