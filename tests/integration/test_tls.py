"""Both servers over TLS and with passwords, as they are reached in production."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

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
from faregate.adapters.redis.installer import RedisInstaller
from faregate.adapters.redis.stream import RedisStream
from faregate.domain.errors import ArchiveUnavailableError, LedgerUnavailableError
from faregate_worker.runtime import open_queue
from own_postgres import own_postgres
from own_redis import own_redis
from processes import end
from redis_ledger import IDENTITY, SHARD, install, make_ledger, spend
from servers import binaries_with_tls
from waiting import wait_for
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
def files(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Sequence[str]:
    """The options of a server with a certificate of its own."""
    folder = tmp_path_factory.mktemp("redis")
    certificate, key = folder / "server.pem", folder / "server.key"
    for path, content in zip((certificate, key), authority.certify(HOST), strict=True):
        path.write_bytes(content)
    trusted = authority.write(folder / "ca.pem")
    names = "--tls-cert-file", "--tls-key-file", "--tls-ca-cert-file"
    pairs = zip(names, (certificate, key, trusted), strict=True)
    return ("--tls-auth-clients", "no", *(str(word) for pair in pairs for word in pair))


@pytest.fixture(scope="module")
def redis_url(files: Sequence[str]) -> Iterator[str]:
    """A Redis that speaks TLS alone; its URL lacks what to trust."""
    port = free_port()
    options = ("--tls-port", str(port), "--bind", "127.0.0.1", *files)
    with own_redis(binaries_with_tls().redis, *options) as server:
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


def test_a_cluster_is_talked_to_over_tls(files: Sequence[str], trusted: Path) -> None:
    """With its login. The certificate is of a name, and this node announces its address."""
    port = free_port()
    options = ["--tls-port", str(port), "--bind", "127.0.0.1", *files, "--cluster-enabled", "yes"]
    options += ["--tls-cluster", "yes", "--cluster-port", str(free_port())]
    options += ["--requirepass", SECRET]
    with (
        own_redis(binaries_with_tls().redis, *options, password=SECRET) as server,
        Redis.from_url(server.url, password=SECRET) as admin,
    ):
        admin.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
        wait_for(lambda: b"cluster_state:ok" in admin.execute_command("CLUSTER", "INFO"), "it is")
        query = f"ssl_ca_certs={trusted}&ssl_check_hostname=false"
        create_and_read(f"rediss+cluster://:{SECRET}@{HOST}:{port}?{query}")


def test_a_service_is_talked_to_over_tls(
    files: Sequence[str], redis_url: str, trusted: Path, tmp_path: Path
) -> None:
    """By sentinels over TLS, with a login of their own."""
    port, ours = free_port(), urlsplit(redis_url).port
    conf = tmp_path / "conf"
    conf.write_text(
        f"port 0\ntls-port {port}\ntls-replication yes\nbind 127.0.0.1\ndir {tmp_path}\n"
        f"requirepass of-sentinels\nsentinel resolve-hostnames yes\n"
        f"sentinel announce-hostnames yes\nsentinel monitor it {HOST} {ours} 1\n"
        f"sentinel auth-pass it {SECRET}\n",
        encoding="utf-8",
    )
    command = [str(binaries_with_tls().redis), str(conf), "--sentinel", *files]
    query = f"sentinel_password=of-sentinels&ssl_ca_certs={trusted}"
    url = f"rediss+sentinel://:{SECRET}@{HOST}:{port}/it/0?{query}"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: is_answering(url), "the sentinel names the primary")
            create_and_read(url)
        finally:
            end(process)


def is_answering(url: str) -> bool:
    with closing(RedisStream.from_url(url, 1)) as stream:
        try:
            return stream.pending_count() >= 0
        except LedgerUnavailableError:
            return False


def create_and_read(url: str) -> None:
    """Create a ledger, and read it."""
    with closing(RedisInstaller.from_url(url, 4)) as installer:
        installer.create(replace(IDENTITY, shard_count=4))
    with closing(RedisStream.from_url(url, 4)) as stream:
        assert stream.epochs() == [1] * 4
        assert stream.wait({0: None, 3: None}, 0.1) == []
    wrong = url.replace(SECRET, "wrong")
    with closing(RedisStream.from_url(wrong, 4)) as stream, pytest.raises(LedgerUnavailableError):
        stream.epochs()


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
