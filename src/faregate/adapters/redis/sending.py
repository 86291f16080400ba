"""Sends commands to their nodes, with one write a node.

In a cluster a command that was not executed is sent again:

    MOVED                                    to the node that it names
    ASK                                      to the node that it names, after ASKING
    TRYAGAIN, CLUSTERDOWN, MASTERDOWN,
    READONLY                                 by a new topology, with a pause from the second time on
    an unknown script                        after loading it
    no connection                            if a new topology names another node

A command whose connection broke may have been executed, and is not sent again. A server that still
loads its data counts as one that does not answer.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from redis.connection import Connection
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from faregate.adapters.redis.keys import Shard
from faregate.adapters.redis.link import Argument
from faregate.adapters.redis.routes import Routes
from faregate.adapters.redis.scripts import Script, is_unknown
from faregate.adapters.redis.topology import Node
from faregate.domain.errors import LedgerUnavailableError, NodeUnavailableError

#: For how long commands that a cluster did not execute are sent again, in seconds.
AGAIN_S_MAX: Final = 1.0
#: The pause between two such tries, in seconds.
AGAIN_PAUSE_S: Final = 0.02
#: Answers without an execution, by their names in Redis.
NOT_EXECUTED: Final[dict[type[RedisError], str]] = {
    MovedError: "MOVED",
    AskError: "ASK",
    TryAgainError: "TRYAGAIN",
    ClusterDownError: "CLUSTERDOWN",
    MasterDownError: "MASTERDOWN",
    ReadOnlyError: "READONLY",
}
#: Refusals of all writes by one node: it has too few replicas, or its disk has failed.
REFUSED: Final = {"NOREPLICAS", "MISCONF"}
#: Those of a node that may be cut off from the others, or a replica.
_DOUBTFUL: Final = ClusterDownError, MasterDownError, ReadOnlyError

Command: TypeAlias = tuple[Argument, ...]


@dataclass(slots=True)
class Sending:
    """A command on its way."""

    command: Command
    #: The shard that it is about; None for a command to a node.
    shard: Shard | None
    #: The node, if it is not that of the shard.
    node: Node | None = None
    is_asking: bool = False
    must_load: bool = False
    reply: Any = None
    #: Whether it may have reached the node.
    is_sent: bool = False

    def words(self, script: Script | None) -> list[Command]:
        """Return the commands to send; the last reply counts."""
        before: list[Command] = [script.load] if self.must_load and script else []
        return [*before, *([("ASKING",)] if self.is_asking else []), self.command]


class CommandSender:
    """Sends the commands of one question."""

    def __init__(self, routes: Routes, script: Script | None = None) -> None:
        """Send by these routes; `script` is what the commands run."""
        self._routes = routes
        self._script = script

    def send(self, sendings: Sequence[Sending]) -> list[Any]:
        """Return the reply to each command; errors are returned, not raised.

        An error is that of the server, or a `LedgerUnavailableError` if there is no answer.
        """
        self._exchange(sendings)
        due = [one for one in sendings if isinstance(one.reply, Exception) and self._note(one)]
        ends_at = time.monotonic() + AGAIN_S_MAX
        is_first = True
        while due and time.monotonic() < ends_at:
            # The first answer may just name another node.
            if not is_first:
                time.sleep(AGAIN_PAUSE_S)
            is_first = False
            if self._routes.is_cluster:
                self._routes.update_topology()
            self._exchange(due)
            due = [one for one in due if isinstance(one.reply, Exception) and self._note(one)]
        return [self._answer(one) for one in sendings]

    def _note(self, one: Sending) -> bool:
        """Return whether a command is sent again after an error, and prepare it."""
        error = one.reply
        if is_unknown(error) and self._script is not None and not one.must_load:
            one.must_load = True
            return True
        if one.shard is None or not self._routes.is_cluster:
            return False
        former, one.node, one.is_asking = one.node, None, False
        if isinstance(error, MovedError):
            self._routes.note_moved(one.shard, _named(error, former))
        elif isinstance(error, AskError):
            one.node, one.is_asking = _named(error, former), True
        elif isinstance(error, LedgerUnavailableError):
            if one.is_sent or former is None:
                return False
            self._routes.update_topology()
            return self._routes.node(one.shard) not in {None, former}
        elif isinstance(error, _DOUBTFUL) and former is not None:
            self._routes.note_doubt(former)
        return isinstance(error, tuple(NOT_EXECUTED))

    def _exchange(self, sendings: Iterable[Sending]) -> None:
        """Send commands and read their replies, those of all nodes at once."""
        by_node: defaultdict[Node, list[Sending]] = defaultdict(list)
        for one in sendings:
            self._place(one)
            if one.node is not None:
                by_node[one.node].append(one)
        talks = [_Talk(self._routes, node, some) for node, some in by_node.items()]
        try:
            for talk in talks:
                talk.send(self._script)
            for talk in talks:
                talk.read(self._script)
        finally:
            for talk in talks:
                talk.end()

    def _place(self, one: Sending) -> None:
        """Find the node of a command."""
        one.is_sent = False
        if one.node is not None and (one.is_asking or one.shard is None):
            return
        try:
            one.node = self._node(one.shard)
        except LedgerUnavailableError as error:
            one.node, one.reply = None, error
            return
        if one.node is None:
            one.reply = ClusterDownError("no node has the slot")

    def _node(self, shard: Shard | None) -> Node | None:
        return self._routes.nodes[0] if shard is None else self._routes.node(shard)

    def _answer(self, one: Sending) -> Any:
        """Return the reply, as an error of the domain if a node of a cluster did not execute it."""
        name = NOT_EXECUTED.get(type(one.reply))
        if isinstance(one.reply, RedisError) and one.reply.status_code in REFUSED:
            name = one.reply.status_code
        if not self._routes.is_cluster or name is None:
            return one.reply
        about = "" if one.shard is None else f" for shard {one.shard.number}"
        made = NodeUnavailableError(f"the cluster answers {name}{about}: {one.reply}")
        made.__cause__ = one.reply
        return made


class _Talk:
    """One write to a node, and its replies."""

    def __init__(self, routes: Routes, node: Node, sendings: list[Sending]) -> None:
        self._routes = routes
        self._node = node
        self._due = sendings
        self._connection: Connection | None = None

    def send(self, script: Script | None) -> None:
        try:
            self._connection = self._routes.connect(self._node)
            commands = [word for one in self._due for word in one.words(script)]
            packed = self._connection.pack_commands(commands)  # type: ignore[no-untyped-call]
            for one in self._due:
                one.is_sent = True
            self._connection.send_packed_command(packed)  # type: ignore[no-untyped-call]
        except (RedisError, OSError) as error:
            self._fail(error)

    def read(self, script: Script | None) -> None:
        while self._due:
            one = self._due[0]
            try:
                for _ in one.words(script):
                    one.reply = self._read_one()
            except (RedisError, OSError) as error:
                self._fail(error)
                return
            self._due.pop(0)

    def _read_one(self) -> Any:
        assert self._connection is not None  # noqa: S101
        try:
            return self._connection.read_response()
        except ResponseError as error:
            return error

    def _fail(self, error: Exception) -> None:
        """Answer all commands that are due by an error."""
        self._routes.note_failure(self._node, error)
        for one in self._due:
            one.reply = self._no_answer(error)
        self._due = []
        if self._connection is not None:
            self._connection.disconnect()  # type: ignore[no-untyped-call]

    def _no_answer(self, error: Exception) -> LedgerUnavailableError:
        kind, name = LedgerUnavailableError, "Redis"
        if self._routes.is_cluster:
            kind, name = NodeUnavailableError, f"the node {self._node.name}"
        made = kind(f"{name} did not answer: {error}")
        made.__cause__ = error
        return made

    def end(self) -> None:
        """Release the connection, closed if replies are due."""
        if self._connection is not None:
            if self._due:
                self._connection.disconnect()  # type: ignore[no-untyped-call]
            self._routes.put_back(self._node, self._connection)


def _named(error: AskError, former: Node | None) -> Node:
    """Return the node that a redirect names; without a host it is that of the answer."""
    host = error.host or (former.host if former else "")
    return Node(host, int(error.port))
