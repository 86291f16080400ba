"""The blocking connection of the worker and of the command line."""

from typing import Any, TypeAlias

from redis import ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.client import CaseInsensitiveDict
from redis.exceptions import RedisError
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from faregate.adapters.redis import scripts
from faregate.adapters.redis.link import Argument
from faregate.adapters.redis.urls import check_no_cluster
from faregate.domain.errors import LedgerUnavailableError

#: The keys and the arguments of a script.
Run: TypeAlias = tuple[tuple[bytes, ...], tuple[Argument, ...]]

_TIMEOUT_S = 5.0
#: Options of the URL that are ignored: replies are bytes, and no command is sent twice.
_OPTIONS = {
    "protocol": 2,
    "decode_responses": False,
    "socket_timeout": _TIMEOUT_S,
    "socket_connect_timeout": _TIMEOUT_S,
    "health_check_interval": 0,
    "retry": Retry(NoBackoff(), 0),
    # Notifications need RESP3.
    "maint_notifications_config": MaintNotificationsConfig(enabled=False),
}


class Client:
    """Sends commands to Redis, and raises errors of the domain. It connects at first use."""

    def __init__(self, like: Redis) -> None:
        """Connect to the server of another client, without using its connections."""
        pool = like.connection_pool
        # Over TCP, redis-py adds handlers of notifications to the options.
        given = pool.connection_kwargs.items()
        options = {name: value for name, value in given if not name.startswith("maint_")}
        self._redis = Redis.from_pool(
            ConnectionPool(connection_class=pool.connection_class, **options | _OPTIONS)
        )

    def ask(self, *command: Argument) -> Any:
        """Send one command and return its bare reply.

        Raises:
            LedgerUnavailableError: There is no reply, or it is an error.
        """
        (reply,) = self.ask_all([command])
        return checked(reply)

    def info(self, *sections: str) -> dict[str, str]:
        """Return the fields of some sections of INFO; raises as `ask` does."""
        replies = self.ask_all([("INFO", section) for section in sections])
        lines = [line for reply in replies for line in checked(reply).decode().splitlines()]
        return {name: value for name, _, value in (line.partition(":") for line in lines)}

    def ask_all(self, commands: list[tuple[Argument, ...]]) -> list[Any]:
        """Send commands in one pipeline, and return their replies, errors included.

        Raises:
            LedgerUnavailableError: There are no replies.
        """
        pipeline = self._redis.pipeline(transaction=False)
        # Without the callbacks by which redis-py converts replies of some commands.
        pipeline.response_callbacks = CaseInsensitiveDict({})
        for command in commands:
            pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
        try:
            replies: list[Any] = pipeline.execute(raise_on_error=False)
        except (RedisError, OSError) as error:
            check_no_cluster(error)
            raise LedgerUnavailableError(f"Redis did not answer: {error}") from error
        return replies

    def run(self, name: str, names: tuple[bytes, ...], *arguments: Argument) -> list[Any]:
        """Run a script and return its reply.

        Raises:
            LedgerUnavailableError: It did not run, or its outcome is unknown.
        """
        (reply,) = self.run_all(name, [(names, arguments)])
        return list(checked(reply))

    def run_all(self, name: str, runs: list[Run]) -> list[Any]:
        """Run a script several times, and return its replies; errors are returned as exceptions.

        If the script has to be loaded first, some calls may run twice.

        Raises:
            LedgerUnavailableError: There are no replies.
        """
        script = scripts.load(name)
        commands = [
            (*script.run_command, len(names), *names, *arguments) for names, arguments in runs
        ]
        replies = self.ask_all(commands)
        if any(isinstance(one, Exception) and scripts.is_unknown(one) for one in replies):
            self.ask(*script.load)
            replies = self.ask_all(commands)
        return replies

    def close(self) -> None:
        """Close all connections."""
        self._redis.close()


def checked(reply: Any) -> Any:
    """Return a reply, or raise the error that it is.

    Raises:
        LedgerUnavailableError: The reply is an error.
        ConfigurationError: The reply is an error that only a node of a cluster gives.
    """
    if isinstance(reply, Exception):
        check_no_cluster(reply)
        raise LedgerUnavailableError(f"Redis refused: {reply}") from reply
    return reply
