"""A ledger that is entered only with the rights that `faregate access` prints."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, Popen, run
from uuid import UUID, uuid4

import psycopg
from redis import Redis

from faregate import Settings
from faregate.adapters.postgres.access import API, AUDITOR, WORKER
from faregate.adapters.postgres.migrations import Migrator
from faregate.adapters.postgres.roles import BACKUP, OWNER, roles_sql
from faregate.adapters.redis import access
from faregate.cli.servers import EmbeddedServers
from waiting import WAIT_S_MAX

#: What stands in for every password.
SECRET = "correct-horse-battery"  # noqa: S105 - of servers that live as long as a test
STARTING_CREDITS = 100
#: Who logs in, and the role that it is a member of.
LOGINS = {
    "app_owner": OWNER,
    "app_api": API.name,
    "app_worker": WORKER.name,
    "app_auditor": AUDITOR.name,
    "app_backup": BACKUP,
}
#: What redis-py sends to tell its name, and what the doctor asks; nothing follows from a refusal.
_IN_VAIN = "client|setinfo", "config|get"
_KEEP_LETTER = """
insert into faregate.dead_letters (shard, stream_id, kind, reason, payload, payload_digest)
select shard, '9-9/1', 'unreadable', 'a test', %s, sha256('x') from faregate.batches limit 1
"""


@dataclass(frozen=True, slots=True)
class Restricted:
    """The servers, and how to enter them as whom."""

    servers: EmbeddedServers
    folder: Path
    #: The Redis of the ledger, if it is elsewhere; the queue stays here.
    ledger_url: str = ""

    def redis_url(self, user: str, secret: str = SECRET) -> str:
        """The URL of the ledger's Redis for one user."""
        url = self.ledger_url or self.servers.redis_url
        return url.replace("://", f"://{user}:{secret}@")

    def queue_url(self, user: str) -> str:
        """The URL of the queue's Redis for one user."""
        return self.servers.redis_url.replace("://", f"://{user}:{SECRET}@")

    def postgres_url(self, login: str) -> str:
        """The URL of Postgres for one login."""
        return self.servers.postgres.database_url("postgres", user=login) + f"&password={SECRET}"

    def settings(self, user: access.RedisUser, login: str) -> Settings:
        """The settings of one process."""
        return Settings(
            redis_url=self.redis_url(user.name),
            queue_url=self.queue_url(user.name),
            postgres_url=self.postgres_url(login),
            provision_users=True,
            decision_timeout_ms=10_000,
        )

    def environment(self, user: access.RedisUser, login: str) -> dict[str, str]:
        """The variables of one process."""
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "FAREGATE_REDIS_URL": self.redis_url(user.name),
            "FAREGATE_QUEUE_URL": self.queue_url(user.name),
            "FAREGATE_POSTGRES_URL": self.postgres_url(login),
            "FAREGATE_TICK_INTERVAL_MS": "50",
            "FAREGATE_RECONCILE_INTERVAL_S": "1",
            "FAREGATE_STARTING_CREDITS": str(STARTING_CREDITS),
            "PGPASSWORD": SECRET,
        }

    def command(
        self, user: access.RedisUser, login: str, *words: str, module: str = "faregate.cli"
    ) -> tuple[int, str]:
        """Run a command of Faregate; return its exit status, and all that it has said."""
        done = run(  # noqa: PLW1510
            [sys.executable, "-m", module, *words],
            env=self.environment(user, login),
            capture_output=True,
            text=True,
            timeout=WAIT_S_MAX,
        )
        return done.returncode, done.stdout + done.stderr

    @contextmanager
    def worker(self) -> Iterator[Popen[bytes]]:
        """Run a worker with its own rights and no others, and stop it in order."""
        environment = self.environment(access.WORKER, "app_worker")
        command = [sys.executable, "-m", "faregate.cli", "worker"]
        with (self.folder / "worker.log").open("ab") as log:
            process = Popen(command, env=environment, stdin=DEVNULL, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(WAIT_S_MAX)

    def is_compared(self) -> bool:
        """Whether a reconciliation was kept."""
        with psycopg.connect(self.servers.postgres_url) as admin:
            return admin.execute("select from faregate.reconciliations").rowcount > 0

    def save_letter(self, payload: bytes) -> None:
        """Keep a record that could not be read when it was kept."""
        with psycopg.connect(self.servers.postgres_url) as admin:
            admin.execute(_KEEP_LETTER, [payload])

    def order_credits(self) -> UUID:
        """Order credits by SQL, as the API, for somebody whom Redis has not seen."""
        user = uuid4()
        with psycopg.connect(self.servers.postgres_url) as admin:
            admin.execute("insert into auth.users (id) values (%s)", [user])
        with psycopg.connect(self.postgres_url("app_api")) as api:
            ((made,),) = api.execute("select faregate.add_credits(%s, 5)", [user]).fetchall()
            waiting = api.execute("select waiting from faregate.balance(%s)", [user]).fetchall()
        assert waiting == [(5,)]
        order_id: UUID = made
        return order_id

    def is_row(self, transaction_id: UUID) -> bool:
        """Whether there is a row of an id."""
        asked = "select from public.credit_transactions where id = %s"
        with psycopg.connect(self.servers.postgres_url) as admin:
            return admin.execute(asked, [transaction_id]).rowcount == 1

    def refused(self) -> list[str]:
        """The commands, keys and channels that Redis has refused to anybody."""
        with Redis.from_url(self.servers.redis_url) as redis:
            return refused_by(redis)


def refused_by(redis: Redis) -> list[str]:
    """The commands, keys and channels that a server has refused to anybody."""
    entries = redis.acl_log()
    objects = [f"{entry['username']}: {entry['object']}" for entry in entries]
    return [text for text in objects if not text.endswith(_IN_VAIN)]


def make_users(redis: Redis, users: Sequence[access.RedisUser] = access.USERS) -> None:
    """Make users on one server, with the rights that are printed and a password."""
    for user in users:
        tell(redis, *user.acl.split())
        tell(redis, "ACL", "SETUSER", user.name, "on", f">{SECRET}")


def tell(redis: Redis, *words: str) -> None:
    """Send a command that redis-py has no method for."""
    redis.execute_command(*words)  # type: ignore[no-untyped-call]


@contextmanager
def restricted_ledger(
    servers: EmbeddedServers, folder: Path, *, ledger_url: str = ""
) -> Iterator[Restricted]:
    """Migrate as the owner, on empty servers, and make all users and roles."""
    made = Restricted(servers, folder, ledger_url)
    with psycopg.connect(servers.postgres_url, autocommit=True) as admin:
        admin.execute(roles_sql().encode())
        for login, role in LOGINS.items():
            admin.execute(f"create role {login} login in role {role}".encode())
        admin.execute(f"alter role app_owner set role = {OWNER}".encode())
        Migrator(made.postgres_url("app_owner")).apply(starting_credits=STARTING_CREDITS)
        admin.execute(roles_sql().encode())
    with Redis.from_url(servers.redis_url) as redis:
        make_users(redis)
    yield made
