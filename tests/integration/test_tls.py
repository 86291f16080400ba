"""Both servers over TLS and with passwords, as they are reached in production."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from redis import Redis

from certificates import Authority
from clocks import patience
from durable import ListedBatch, database, stored
from faregate.adapters.postgres.accounts import PostgresAccounts
from faregate.adapters.postgres.archive import PostgresArchive
from faregate.adapters.postgres.audit import PostgresAudit
from faregate.adapters.postgres.migrations import Migrator
from faregate.adapters.redis.stream import RedisStream
from faregate.domain.errors import ArchiveUnavailableError, LedgerUnavailableError
from faregate_worker.runtime import open_queue
from own_postgres import own_postgres
from own_redis import own_redis
from redis_ledger import IDENTITY, SHARD, install, make_ledger, spend
from servers import binaries_with_tls
from wire_client import free_port

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

SECRET = "correct-horse-battery"  # noqa: S105 - of servers that live as long as a test
HOST = "localhost"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.make("An authority of the tests")


@pytest.fixture(scope="module")
def trusted(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The certificate that clients trust."""
    return authority.write(tmp_path_factory.mktemp("tls") / "ca.pem")


@pytest.fixture(scope="module")
def another(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The certificate of an authority that has certified nobody."""
    return Authority.make("Another").write(tmp_path_factory.mktemp("tls") / "ca.pem")


@pytest.fixture(scope="module")
def redis_url(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis that speaks TLS alone; its URL lacks what to trust."""
    folder, port = tmp_path_factory.mktemp("redis"), free_port()
    certificate, key = folder / "server.pem", folder / "server.key"
    for path, content in zip((certificate, key), authority.certify(HOST), strict=True):
        path.write_bytes(content)
    options = ("--tls-port", str(port), "--bind", "127.0.0.1", "--tls-auth-clients", "no")
    files = ("--tls-cert-file", f"{certificate}", "--tls-key-file", f"{key}")
    program = binaries_with_tls().redis
    with own_redis(program, *options, *files, "--tls-ca-cert-file", f"{certificate}") as server:
        with Redis.from_url(server.url) as admin:
            admin.config_set("requirepass", SECRET)
        yield f"rediss://:{SECRET}@{HOST}:{port}/0?ssl_ca_certs="


async def test_everything_that_talks_to_redis_does_so_over_tls(
    redis_url: str, trusted: Path
) -> None:
    """The ledger, whose lane takes the connection over, the stream and the queue."""
    url = f"{redis_url}{trusted}"
    with patience():
        ledger = make_ledger(url)
        await ledger.attach(IDENTITY)
        user_id = await install(ledger)
        assert (await spend(ledger, user_id, 4)).credits == 6
        await ledger.aclose()
    with closing(RedisStream.from_url(url, 1)) as stream:
        assert stream.read(SHARD, None, 100) is not None
    queue = open_queue(url, socket_timeout_s=9.0)
    assert queue.job_ids == []
    queue.connection.close()


async def test_a_redis_of_another_authority_is_not_talked_to(redis_url: str, another: Path) -> None:
    """The error says why, and shows no password."""
    url = f"{redis_url}{another}"
    ledger = make_ledger(url)
    with patience(), pytest.raises(LedgerUnavailableError, match="certificate verify failed") as no:
        await ledger.attach(IDENTITY)
    await ledger.aclose()
    with (
        closing(RedisStream.from_url(url, 1)) as stream,
        pytest.raises(LedgerUnavailableError, match="certificate verify failed") as neither,
    ):
        stream.pending_count()
    assert SECRET not in f"{no.value} {neither.value}"


@pytest.fixture(scope="module")
def postgres_url(authority: Authority) -> Iterator[str]:
    """A Postgres that takes TLS and passwords alone; its URL lacks what to trust."""
    with own_postgres(binaries_with_tls().postgres, free_port()) as made:
        certificate, key = authority.certify(HOST)
        made.write("server.crt", certificate)
        made.write("server.key", key)
        hosts = "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n"
        made.write("pg_hba.conf", hosts.encode())
        with made.running("ssl=on", "listen_addresses=127.0.0.1"):
            with psycopg.connect(made.url, autocommit=True) as admin:
                admin.execute(f"create role app login superuser password '{SECRET}'".encode())
            yield f"postgresql://app:{SECRET}@{HOST}:{made.port}/postgres?sslmode=verify-full"


async def test_everything_that_talks_to_postgres_does_so_over_tls(
    postgres_url: str, trusted: Path
) -> None:
    """The migrator, the gate's pool, the worker and the audit."""
    url = f"{postgres_url}&sslrootcert={trusted}"
    Migrator(url).apply()
    accounts = PostgresAccounts(url)
    assert (await accounts.identity()).shard_count == 16
    await accounts.aclose()
    with database(url) as tables, closing(PostgresArchive(url)) as archive:
        batch = ListedBatch(0, tables.user().deducts(3))
        assert archive.store(batch).count == stored(inserted=3).count
        encrypted = tables.run(
            "select bool_and(ssl) as all_ssl from pg_stat_ssl where client_dn is"
            " null and pid = pg_backend_pid()"
        )
        assert encrypted == [{"all_ssl": True}]
    with closing(PostgresAudit(url)) as audit:
        assert audit.verify() == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, "certificate verify failed"),
        ({HOST: "127.0.0.1"}, "does not match host name"),
        ({"verify-full": "disable"}, "no encryption"),
        ({SECRET: "wrong-secret"}, "password authentication failed"),
    ],
    ids=["authority", "name", "no TLS", "password"],
)
def test_a_postgres_that_is_not_the_one_is_not_talked_to(
    postgres_url: str, trusted: Path, another: Path, change: dict[str, str], reason: str
) -> None:
    """The error says why, and shows no password."""
    url = f"{postgres_url}&sslrootcert={trusted if change else another}"
    for old, new in change.items():
        url = url.replace(old, new)
    with pytest.raises(ArchiveUnavailableError, match=reason) as refused:
        Migrator(url).status()
    assert SECRET not in str(refused.value)
    assert "wrong-secret" not in str(refused.value)
