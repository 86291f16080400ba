"""The blocking client of the worker and of the command line."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from faregate.adapters.redis import scripts
from faregate.adapters.redis.keys import Shard
from faregate.adapters.redis.link import Argument
from faregate.adapters.redis.routes import Address, routes_to
from faregate.adapters.redis.sending import Command, CommandSender, Sending
from faregate.adapters.redis.topology import Node
from faregate.adapters.redis.urls import cluster_error
from faregate.domain.errors import FaregateError, LedgerUnavailableError

#: A shard, and keys and arguments of a script.
Run: TypeAlias = tuple[Shard, tuple[bytes, ...], tuple[Argument, ...]]


class Client:
    """Sends commands to the nodes of a ledger, and raises errors of the domain.

    It connects at first use. A command names the shard of its keys, or None for a command of a
    server outside of a cluster.
    """

    def __init__(self, address: Address) -> None:
        """Connect to the Redis of a URL, or to the server of another client."""
        self._routes = routes_to(address)

    @property
    def is_cluster(self) -> bool:
        """Whether the shards may lie on several nodes."""
        return self._routes.is_cluster

    @property
    def nodes(self) -> Sequence[Node]:
        """All primaries, or the one server.

        Raises:
            LedgerUnavailableError: They are not known, since no node answers.
        """
        return self._routes.nodes

    def node(self, shard: Shard) -> Node | None:
        """Return the node of a shard; None if it has none. Raises as `nodes` does."""
        return self._routes.node(shard)

    def update_topology(self) -> None:
        """Read the topology of a cluster again, unless it was read just now."""
        self._routes.update_topology()

    def ask(self, shard: Shard | None, *command: Argument) -> Any:
        """Send one command and return its bare reply.

        Raises:
            LedgerUnavailableError: There is no reply, or it is an error.
            NodeUnavailableError: ... and it is only that of one node of a cluster.
        """
        (reply,) = self.ask_all([(shard, command)])
        return checked(reply)

    def ask_all(self, commands: Iterable[tuple[Shard | None, Command]]) -> list[Any]:
        """Send commands in one pipeline a node, and return their replies.

        An error is returned as an exception: that of the server, or a `LedgerUnavailableError` if
        there is no answer. `checked` raises it.
        """
        return self._send([Sending(command, shard) for shard, command in commands])

    def ask_each(self, *command: Argument) -> Mapping[Node, Any]:
        """Send a command to each primary, and return their replies; errors as `ask_all` does.

        Raises:
            LedgerUnavailableError: The primaries are not known.
        """
        nodes = self.nodes
        replies = self._send([Sending(command, None, node) for node in nodes])
        return dict(zip(nodes, replies, strict=True))

    def get_all(self, names: Iterable[tuple[Shard, bytes]]) -> list[bytes | Exception | None]:
        """Return the values of keys, or errors, as `ask_all` does: on one server in one command."""
        pairs = list(names)
        if self.is_cluster or not pairs:
            return self.ask_all((shard, ("GET", name)) for shard, name in pairs)
        reply = self.ask_all([(None, ("MGET", *(name for _, name in pairs)))])[0]
        return [reply] * len(pairs) if isinstance(reply, Exception) else reply

    def info_each(self, *sections: str) -> dict[Node, dict[str, str]]:
        """Return the fields of some sections of INFO of each node.

        Raises:
            LedgerUnavailableError: A node does not answer.
        """
        fields: dict[Node, dict[str, str]] = {node: {} for node in self.nodes}
        for section in sections:
            for node, reply in self.ask_each("INFO", section).items():
                lines = (line.partition(":") for line in checked(reply).decode().splitlines())
                fields.setdefault(node, {}).update((name, value) for name, _, value in lines)
        return fields

    def run(
        self, name: str, shard: Shard, names: tuple[bytes, ...], *arguments: Argument
    ) -> list[Any]:
        """Run a script and return its reply.

        Raises:
            LedgerUnavailableError: It did not run, or its outcome is unknown.
        """
        (reply,) = self.run_all(name, [(shard, names, arguments)])
        return list(checked(reply))

    def run_all(self, name: str, runs: Iterable[Run]) -> list[Any]:
        """Run a script several times, and return its replies, errors as `ask_all` does.

        Nodes that do not know the script get it. A node of a cluster refuses it while its slot
        moves key by key (see `Shard.guard`).
        """
        script = scripts.load(name)
        return self._send(
            [
                Sending(self._run_command(script, shard, names, arguments), shard)
                for shard, names, arguments in runs
            ],
            script,
        )

    def _run_command(
        self,
        script: scripts.Script,
        shard: Shard,
        names: tuple[bytes, ...],
        arguments: tuple[Argument, ...],
    ) -> Command:
        # See `Shard.guard`.
        guarded = (*names, shard.guard) if self.is_cluster else names
        return (*script.run_command, len(guarded), *guarded, *arguments)

    def run_on(self, node: Node, name: str, *arguments: Argument) -> list[Any]:
        """Run a script without keys on a node; raises as `run` does."""
        script = scripts.load(name)
        sending = Sending((*script.run_command, 0, *arguments), None, node)
        return list(checked(self._send([sending], script)[0]))

    def _send(self, sendings: list[Sending], script: scripts.Script | None = None) -> list[Any]:
        replies = CommandSender(self._routes, script).send(sendings)
        return replies if self.is_cluster else [_outside_of_clusters(one) for one in replies]

    def close(self) -> None:
        """Close all connections."""
        self._routes.close()


def checked(reply: Any) -> Any:
    """Return a reply, or raise the error that it is.

    Raises:
        LedgerUnavailableError: The reply is an error.
        ConfigurationError: The reply is an error that only a node of a cluster gives.
    """
    if isinstance(reply, FaregateError):
        raise reply
    if isinstance(reply, Exception):
        raise LedgerUnavailableError(f"Redis refused: {reply}") from reply
    return reply


def _outside_of_clusters(reply: Any) -> Any:
    found = cluster_error(reply) if isinstance(reply, Exception) else None
    if found is None:
        return reply
    found.__cause__ = reply
    return found
