"""Settings: the addresses of the servers, and every bound that an operator may change."""

import os
import re
from difflib import get_close_matches
from enum import StrEnum
from typing import Any

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from faregate.domain.errors import ConfigurationError
from faregate.domain.idempotency import (
    KEYS_COUNT_MAX,
    KEYS_MAX,
    LEASE_MS,
    LIFETIME_MS,
    LIFETIME_MS_MAX,
    LIFETIME_MS_MIN,
)
from faregate.domain.redis_url import QUEUE_IN_CLUSTER, RedisUrl
from faregate.domain.windows import RETENTION_MS, STORED_MS

PREFIX = "FAREGATE_"
#: The name of RQ's queue.
QUEUE_NAME = "faregate"
#: Variables with the prefix that are no settings: those of Faregate's own tests, and those that
#: Kubernetes sets for a service whose name begins with `faregate`.
_OF_OTHERS = re.compile(
    r"FAREGATE_(?:TEST_\w+"
    r"|(?:\w+_)?SERVICE_(?:HOST|PORT(?:_\w+)?)"
    r"|(?:\w+_)?PORT_\d+_(?:TCP|UDP|SCTP)(?:_\w+)?)"
)
_PORT_OF_A_SERVICE = re.compile(r"(?:tcp|udp|sctp)://.*")
_SUGGESTIONS_MAX = 3


class Environment(StrEnum):
    """The environment of a process."""

    #: A machine of a developer: decisions may take longer.
    DEVELOPMENT = "development"
    #: A server: programs that are unsafe there do not start.
    PRODUCTION = "production"


class LogFormat(StrEnum):
    """The format of the worker's log."""

    #: Lines for people.
    TEXT = "text"
    #: One JSON object a line.
    JSON = "json"


#: A developer's machine is busy, and the first request loads modules.
_DECISION_TIMEOUT_MS = {Environment.DEVELOPMENT: 1_000, Environment.PRODUCTION: 50}


def _decision_timeout_ms(given: dict[str, Any]) -> int:
    """Return the default, which depends on the environment."""
    return _DECISION_TIMEOUT_MS[given.get("environment", Environment.PRODUCTION)]


class Settings(BaseSettings):
    """Settings from the environment, each with the prefix `FAREGATE_`, or from arguments."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True
    )

    # Servers
    # URLs may hold passwords, so `repr` leaves them out.
    #: The Redis of the ledger, with live balances and records: `redis://` or `unix://` for a
    #: server, `redis+cluster://host:port,host:port` for a cluster,
    #: `redis+sentinel://host:port,host:port/service` for sentinels. TLS: `rediss`.
    redis_url: str = Field(default="redis://127.0.0.1:6379/0", repr=False)
    #: The PostgreSQL with users and rows: a URL or a connection string.
    postgres_url: str = Field(default="postgresql://127.0.0.1/postgres", repr=False)
    #: The Redis of RQ's queue; empty for the Redis of the ledger. It is a server, or a service
    #: behind sentinels, and never a cluster. So beside a cluster it must be set.
    queue_url: str = Field(default="", repr=False)
    #: Where a process runs. `faregate api` and the embedded servers do not start in production.
    environment: Environment = Environment.DEVELOPMENT

    # The ledger
    #: The number of shards. It is fixed when a ledger is created; `faregate rebuild` changes it.
    shard_count: int = Field(default=16, ge=1, le=100)
    #: The credits of a new user. The number is fixed when a ledger is created.
    starting_credits: int = Field(default=3, ge=0, le=2**31 - 1)
    #: The cost of a request in credits, if the app has no policy of its own.
    request_cost: int = Field(default=1, ge=0, le=2**31 - 1)
    #: Whether a user that Postgres does not know is created at its first request.
    provision_users: bool = False

    # Decisions
    #: The time limit of a decision. A charge that is not decided in time is answered with 503.
    decision_timeout_ms: int = Field(default_factory=_decision_timeout_ms, ge=5, le=10_000)
    #: The time limit of all other calls: ends of holds, refunds, completions, balances.
    end_timeout_ms: int = Field(default=2_000, ge=50, le=60_000)
    #: The circuit breaker opens after so many missing answers in a row.
    breaker_failures_max: int = Field(default=10, ge=1, le=10_000)
    #: The missing answers count if they lie within this time.
    breaker_span_ms: int = Field(default=10_000, ge=1, le=600_000)
    #: The first pause of an open circuit breaker. After a pause one request tries Redis again.
    breaker_delay_ms_min: int = Field(default=100, ge=1, le=60_000)
    #: The longest pause of an open circuit breaker: each one is twice as long as the last.
    breaker_delay_ms_max: int = Field(default=1_000, ge=1, le=60_000)

    # Requests without a decision
    #: The folder of the journal, on a disk that outlives the container. Without a folder, no
    #: request is served without a decision.
    journal_dir: str = ""
    #: The maximum size of the journal, in bytes. A full journal refuses requests; an entry takes
    #: about 500 bytes.
    journal_bytes_max: int = Field(default=64 * 2**20, ge=4_096)
    #: The number of requests a second to serve without a decision during an overload.
    open_rate_max: int = Field(default=1_000, ge=0, le=1_000_000)

    # Idempotency keys and the backlog
    #: How long an idempotency key is stored. A change of this setting makes earlier keys unknown.
    idempotency_lifetime_ms: int = Field(
        default=LIFETIME_MS, ge=LIFETIME_MS_MIN, le=LIFETIME_MS_MAX
    )
    #: After this time a retry takes over a request with an idempotency key that was not completed.
    idempotency_lease_ms: int = Field(default=LEASE_MS, ge=0, le=LIFETIME_MS_MAX)
    #: The maximum number of idempotency keys of a user in one lifetime.
    idempotency_keys_max: int = Field(default=KEYS_MAX, ge=1, le=KEYS_COUNT_MAX)
    #: The number of records of a shard that may wait for Postgres, at about 100 bytes each. Beyond
    #: it charges are refused.
    pending_max: int = Field(default=500_000, ge=1, le=2**31 - 1)

    # The worker
    #: How long a stored record stays in Redis. Choose a longer time than a failover of Postgres may
    #: lose.
    stored_ms: int = Field(default=STORED_MS, ge=RETENTION_MS, le=86_400_000)
    #: How often the worker looks for pending records.
    tick_interval_ms: int = Field(default=200, ge=10, le=60_000)
    #: How long one job of the worker may take, in seconds.
    drain_s_max: float = Field(default=30.0, gt=0, le=600)
    #: The maximum number of records in one transaction of the drain.
    batch_size_max: int = Field(default=10_000, ge=1, le=50_000)
    #: The interval in which the worker reconciles users with new rows, in seconds; 0 for never. It
    #: reconciles all users once a day.
    reconcile_interval_s: int = Field(default=900, ge=0, le=86_400)
    #: The address at which the worker serves metrics for Prometheus.
    metrics_host: str = "127.0.0.1"
    #: The port at which the worker serves metrics for Prometheus; 0 for none.
    metrics_port: int = Field(default=0, ge=0, le=65_535)
    #: The form of the worker's log: text lines, or JSON.
    log_format: LogFormat = LogFormat.TEXT

    @model_validator(mode="before")
    @classmethod
    def _knows_every_variable(cls, given: Any) -> Any:
        """Refuse unknown variables, since a misspelt one would have no effect."""
        known = {PREFIX + name.upper() for name in cls.model_fields}
        ours = {name.upper() for name, value in os.environ.items() if _is_ours(name.upper(), value)}
        if unknown := sorted(ours - known):
            raise ConfigurationError("; ".join(_unknown(name, known) for name in unknown))
        return given

    @field_validator("metrics_port", mode="before")
    @classmethod
    def _is_no_service(cls, port: Any) -> Any:
        """Ignore the variable that Kubernetes sets for a service called `faregate-metrics`."""
        return 0 if _PORT_OF_A_SERVICE.fullmatch(str(port)) else port

    @field_validator("redis_url", "queue_url")
    @classmethod
    def _is_redis(cls, url: str) -> str:
        try:
            # Read only for its error.
            _ = url and RedisUrl.parse(url)
        except ConfigurationError as error:
            raise ValueError(str(error)) from None
        return url

    @field_validator("queue_url")
    @classmethod
    def _is_no_cluster(cls, url: str) -> str:
        if url and RedisUrl.parse(url).is_cluster:
            raise ValueError(QUEUE_IN_CLUSTER)
        return url

    @property
    def rq_url(self) -> str:
        """The Redis of RQ's queue.

        Raises:
            ConfigurationError: The ledger lives in a cluster, and the queue has no URL of its own.
        """
        if not self.queue_url and RedisUrl.parse(self.redis_url).is_cluster:
            raise ConfigurationError(f"FAREGATE_QUEUE_URL is not set: {QUEUE_IN_CLUSTER}")
        return self.queue_url or self.redis_url


def masked(url: str) -> str:
    """Return a URL or a connection string without its secrets."""
    if "://" in url:
        # Everything before the last @, since a password without percent-encoding may contain an @.
        return re.sub(r"\?.*", "?***", re.sub(r"://.*@", "://***@", url))
    if "=" in url:
        return re.sub(r"(password\s*=\s*)(?:'(?:\\.|[^'\\])*'?|\S+)", r"\1***", url)
    return "***" if url else ""


def _is_ours(name: str, value: str) -> bool:
    if not name.startswith(PREFIX) or _OF_OTHERS.fullmatch(name):
        return False
    return not (name.endswith("_PORT") and _PORT_OF_A_SERVICE.fullmatch(value))


def _unknown(name: str, known: set[str]) -> str:
    # Compared without the prefix, which would make all names similar.
    words = sorted(other.removeprefix(PREFIX) for other in known)
    near = get_close_matches(name.removeprefix(PREFIX), words, n=_SUGGESTIONS_MAX)
    meant = " or ".join(PREFIX + word for word in near)
    hint = f"did you mean {meant}?" if near else "unset it"
    return f"{name} is set in the environment, and there is no such setting: {hint}"


def read_settings(**given: object) -> Settings:
    """Read settings from the environment, except those in `given`.

    Raises:
        ConfigurationError: A setting is ill-formed or unknown; the error has the name of the
            variable.
    """
    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        problems = (
            f"{PREFIX}{'_'.join(map(str, item['loc'])).upper()}: "
            f"{item['msg'].removeprefix('Value error, ')}"
            for item in error.errors()
            # A default that depends on an invalid setting is not reported as well.
            if item["type"] != "default_factory_not_called"
        )
        raise ConfigurationError("; ".join(problems)) from error
