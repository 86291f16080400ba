"""Checks whether a Redis user has the rights that it needs (see `access`)."""

from collections.abc import Iterator, Sequence

from redis.exceptions import AuthenticationError, NoPermissionError

from faregate.adapters.redis import scripts
from faregate.adapters.redis.access import (
    REPAIRER,
    WORKER,
    WORKER_ON_LEDGER,
    WORKER_ON_QUEUE,
    RedisUser,
    command_name,
)
from faregate.adapters.redis.client import Client, checked
from faregate.adapters.redis.urls import LEDGER_SETTING, QUEUE_SETTING, check_url
from faregate.domain.errors import ConfigurationError, LedgerUnavailableError


def check_worker(ledger_url: str, queue_url: str) -> None:
    """Check the rights of a worker on the Redis of the ledger and on that of the queue.

    Raises:
        ConfigurationError: A right is missing, or the login fails.
        LedgerUnavailableError: A server does not answer.
    """
    _check(ledger_url, LEDGER_SETTING, WORKER, WORKER_ON_LEDGER)
    setting = QUEUE_SETTING if queue_url != ledger_url else LEDGER_SETTING
    _check(queue_url, setting, WORKER, WORKER_ON_QUEUE)


def check_repairer(ledger_url: str) -> None:
    """Check that an operator may correct live balances; raises as `check_worker` does."""
    _check(ledger_url, LEDGER_SETTING, REPAIRER, REPAIRER.samples)


def _check(url: str, setting: str, user: RedisUser, samples: Sequence[str]) -> None:
    client = Client(check_url(url, setting))
    load, ask = question(samples)
    try:
        # Each node of a cluster has its own users.
        for loaded in client.ask_each(*load).values():
            checked(loaded)
        answers = client.ask_each(*ask).values()
        refused = [name for answer in answers for name in checked(answer)]
    except LedgerUnavailableError as error:
        problem = problem_of(error, user, setting)
        if problem is None:
            raise
        raise problem from error
    finally:
        client.close()
    check_reply(refused, user, setting)


def question(samples: Sequence[str]) -> tuple[tuple[str, ...], tuple[str | int, ...]]:
    """Return two commands; the reply to the second lists the samples that the user may not send.

    Both need only the right to run scripts, and may be sent twice.
    """
    script = scripts.load("allowed")
    return script.load, (*script.run_command, 0, *samples)


def check_reply(refused: Sequence[bytes], user: RedisUser, setting: str) -> None:
    """Check the reply to a question.

    Raises:
        ConfigurationError: A right is missing; the message says which one, and how to grant it.
    """
    names = sorted({command_name(sample.decode()) for sample in refused})
    if names:
        raise ConfigurationError(
            f"the Redis user in {setting} may not send {', '.join(names)}"
            f" on the keys {' '.join(user.patterns)}; {_hint(user)}"
        )


def problem_of(
    error: LedgerUnavailableError, user: RedisUser, setting: str
) -> ConfigurationError | None:
    """Return the missing right or wrong password that caused an error; None for other causes."""
    for cause in _causes(error):
        if isinstance(cause, AuthenticationError):
            return ConfigurationError(f"Redis refuses user or password of {setting}: {cause}")
        if isinstance(cause, NoPermissionError):
            lack = f"the Redis user in {setting} lacks a right: {cause}"
            return ConfigurationError(f"{lack}; {_hint(user)}")
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Iterate over an error and its causes, since redis-py wraps errors."""
    cause = error.__cause__ or error.__context__
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _hint(user: RedisUser) -> str:
    return f"`faregate access --part redis` prints what {user.name} needs"
