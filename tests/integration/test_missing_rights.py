"""A gate, a worker and an audit that lack a right do not start: one line says which and why."""

from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
from psycopg import sql
from redis import Redis

from durable import as_role
from faregate.adapters.postgres import access as postgres_access
from faregate.adapters.postgres.access import DatabaseRole, Right
from faregate.adapters.postgres.accounts import PostgresAccounts
from faregate.adapters.postgres.audit import PostgresAudit
from faregate.adapters.postgres.roles import roles_sql
from faregate.adapters.redis import access, keys, rights
from faregate.adapters.redis.alignments import RedisAccounts
from faregate.adapters.redis.stream import RedisStream
from faregate.cli.servers import Binaries, EmbeddedValkey
from faregate.domain.alignment import Alignment, AlignmentRecord, LiveDrift
from faregate.domain.errors import ConfigurationError, HiddenRowsError
from faregate.domain.transaction import TransactionType
from least_rights import SECRET, make_users, tell
from redis_ledger import IDENTITY, install, make_ledger, records_after
from servers import lone_redis

pytestmark = [pytest.mark.redis, pytest.mark.postgres]


@pytest.fixture(scope="module")
def redis(binaries: Binaries) -> Iterator[EmbeddedValkey]:
    with lone_redis(binaries) as running:
        yield running


@pytest.fixture
def admin(redis: EmbeddedValkey) -> Iterator[Redis]:
    """A server whose users have exactly their rights."""
    with Redis.from_url(redis.url) as client:
        make_users(client)
        yield client


def url(redis: EmbeddedValkey, user: access.RedisUser, secret: str = SECRET) -> str:
    return redis.url.replace("unix://", f"unix://{user.name}:{secret}@")


async def attach(url: str) -> None:
    ledger = make_ledger(url)
    try:
        await ledger.attach(IDENTITY)
    finally:
        await ledger.aclose()


async def test_a_gate_names_each_command_that_it_may_not_send(
    redis: EmbeddedValkey, admin: Redis
) -> None:
    """Before it writes anything: a script that may not send one of its commands stops halfway."""
    user = access.GATE
    for command in user.commands:
        admin.flushall()
        tell(admin, "ACL", "SETUSER", user.name, f"-{command}")
        with pytest.raises(ConfigurationError, match=rf"\b{command.replace('|', '.')}\b") as caught:
            await attach(url(redis, user))
        assert "faregate access --part redis" in str(caught.value)
        assert SECRET not in str(caught.value)
        assert admin.dbsize() == 0
        tell(admin, "ACL", "SETUSER", user.name, f"+{command}")
    await attach(url(redis, user))


def test_a_worker_names_each_command_that_it_may_not_send(
    redis: EmbeddedValkey, admin: Redis
) -> None:
    """On the Redis of the ledger as on that of the queue."""
    user = access.WORKER
    own = url(redis, user)
    for command in user.commands:
        tell(admin, "ACL", "SETUSER", user.name, f"-{command}")
        with pytest.raises(ConfigurationError, match=rf"\b{command.replace('|', '.')}\b"):
            rights.check_worker(own, own)
        tell(admin, "ACL", "SETUSER", user.name, f"+{command}")
    rights.check_worker(own, own)


def test_a_repairer_names_each_command_that_it_may_not_send(
    redis: EmbeddedValkey, admin: Redis
) -> None:
    """Before it corrects anything."""
    user = access.REPAIRER
    for command in user.commands:
        tell(admin, "ACL", "SETUSER", user.name, f"-{command}")
        with pytest.raises(ConfigurationError, match=rf"\b{command.replace('|', '.')}\b"):
            rights.check_repairer(url(redis, user))
        tell(admin, "ACL", "SETUSER", user.name, f"+{command}")
    rights.check_repairer(url(redis, user))


async def test_a_repairer_corrects_balances_and_reads_records_with_its_rights_alone(
    redis: EmbeddedValkey, admin: Redis
) -> None:
    """Of an account that is there, of one that is lost, and with a record."""
    admin.flushall()
    ledger, own = make_ledger(url(redis, access.GATE)), url(redis, access.REPAIRER)
    await ledger.attach(IDENTITY)
    user_id = await install(ledger)
    await ledger.aclose()
    record = AlignmentRecord(type=TransactionType.ADD, description="found")
    with (
        closing(RedisAccounts.from_url(own, 1)) as accounts,
        closing(RedisStream.from_url(own, 1)) as stream,
    ):
        for amount, told in ((-4, None), (-3, record), (6, None)):
            if amount > 0:
                admin.delete(keys.account(user_id, 1))
            account = accounts.read([user_id])[user_id]
            drift = LiveDrift(account=account, amount=amount, allowance_amount=0, sequence_min=2)
            assert accounts.align(Alignment.of(drift, told)).credits == 6
        assert [one.transaction.amount for one in records_after(stream) if one.transaction] == [3]


@pytest.mark.parametrize("pattern", [("resetkeys", "~other:*"), ("resetkeys", "%R~fg:*")])
async def test_keys_that_are_closed_are_noticed(
    redis: EmbeddedValkey, admin: Redis, pattern: tuple[str, str]
) -> None:
    """Commands are of no use on keys that are not given, or given for reading alone."""
    tell(admin, "ACL", "SETUSER", access.GATE.name, *pattern)
    with pytest.raises(ConfigurationError, match=r"may not send .*\bmset\b.* on the keys ~fg:\*"):
        await attach(url(redis, access.GATE))


def test_a_worker_needs_the_channel_and_the_keys_of_its_queue(
    redis: EmbeddedValkey, admin: Redis
) -> None:
    own = url(redis, access.WORKER)
    for missing, command in (("resetchannels", "subscribe"), ("resetkeys", "blmove")):
        tell(admin, *access.WORKER.acl.split())
        tell(admin, "ACL", "SETUSER", access.WORKER.name, missing, "~fg:*")
        with pytest.raises(ConfigurationError, match=command):
            rights.check_worker(own, own)


@pytest.mark.usefixtures("admin")
async def test_a_wrong_password_is_a_wrong_setting(redis: EmbeddedValkey) -> None:
    """It is named by its variable, and not repeated."""
    wrong = url(redis, access.GATE, "wrong-secret")
    with pytest.raises(ConfigurationError, match="FAREGATE_REDIS_URL") as caught:
        await attach(wrong)
    assert "wrong-secret" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="FAREGATE_QUEUE_URL"):
        rights.check_worker(url(redis, access.WORKER), wrong)


@pytest.fixture
def connection(database_url: str) -> Iterator[psycopg.Connection]:
    """A superuser's connection to a database with all roles and rights."""
    with psycopg.connect(database_url, autocommit=True) as opened:
        opened.execute(roles_sql().encode())
        yield opened


def take(connection: psycopg.Connection, right: Right, role: str) -> None:
    """Take a right away from a role, wherever it has it from."""
    if right.kind == "rows":
        policies = connection.execute(
            "select polname from pg_policy where polrelid = %s::regclass"
            " and to_regrole(%s) = any(polroles)",
            [right.object, role],
        )
        for (name,) in policies.fetchall():
            drop = sql.SQL("drop policy {} on {}").format(
                sql.Identifier(name), sql.Identifier(*right.object.split("."))
            )
            connection.execute(drop)
        return
    name = connection.execute("select current_database()").fetchone()
    text = f"{right} {name[0]}" if right.kind == "database" and name else str(right)
    connection.execute(f"revoke {text} from {role}, faregate_reader, public".encode())


@pytest.mark.parametrize("role", postgres_access.ROLES, ids=lambda role: role.name)
def test_each_right_of_a_role_is_missed(connection: psycopg.Connection, role: DatabaseRole) -> None:
    """By its name, though the schema may be closed to who asks."""
    for right in role.rights:
        with connection.transaction(force_rollback=True):
            take(connection, right, role.name)
            connection.execute(f"set local role {role.name}".encode())
            with pytest.raises(ConfigurationError) as caught:
                postgres_access.check(connection, role)
            assert f"{right}" in str(caught.value)
            assert role.name in str(caught.value)
    with connection.transaction(force_rollback=True):
        connection.execute(f"set local role {role.name}".encode())
        postgres_access.check(connection, role)


async def test_a_gate_and_an_audit_ask_before_they_begin(
    connection: psycopg.Connection, database_url: str
) -> None:
    """An audit that does not see all rows would find drift where there is none."""
    connection.execute("revoke select on faregate.ledger from faregate_api")
    accounts = PostgresAccounts(as_role(database_url, "faregate_api"))
    with pytest.raises(ConfigurationError, match=r"select on table faregate\.ledger"):
        await accounts.identity()
    await accounts.aclose()
    connection.execute(
        'drop policy "The auditor can view transactions" on public.credit_transactions'
    )
    audit = PostgresAudit(as_role(database_url, "faregate_auditor"))
    with pytest.raises(HiddenRowsError, match=r"select on rows public\.credit_transactions"):
        audit.verify()
    audit.close()


def test_an_unmigrated_database_is_not_called_a_lack_of_rights(empty_database_url: str) -> None:
    """Whatever else is missing there, migrations come first."""
    with pytest.raises(ConfigurationError, match="faregate migrate"):
        postgres_access.check_worker(empty_database_url)
