"""URLs of one server, of a cluster, and of sentinels: parsed once, and refused without a quote."""

import pytest

from faregate.domain.errors import ConfigurationError
from faregate.domain.redis_url import RedisKind, RedisUrl


def test_one_server_stays_as_it_is() -> None:
    for url in ("redis://:pw@h:1/2?socket_keepalive=true", "rediss://h", "unix:///run/s?db=1"):
        parsed = RedisUrl.parse(url)
        assert (parsed.kind, parsed.server_url, parsed.seeds) == (RedisKind.SERVER, url, ())


def test_a_cluster_names_any_of_its_hosts() -> None:
    parsed = RedisUrl.parse("redis+cluster://u:p%40w@a:7000,b,[::1]:7002?socket_keepalive=true")
    assert parsed.is_cluster
    assert parsed.seeds == (("a", 7000), ("b", 6379), ("::1", 7002))
    assert parsed.server_url == "redis://u:p%40w@a:7000/0?socket_keepalive=true"


def test_sentinels_name_a_service_and_have_a_login_of_their_own() -> None:
    url = "redis+sentinel://:pw@a,b:1/main/2?sentinel_username=s&sentinel_password=x%26y"
    parsed = RedisUrl.parse(url)
    assert parsed.kind is RedisKind.SENTINEL
    assert (parsed.seeds, parsed.service) == ((("a", 26379), ("b", 1)), "main")
    assert parsed.sentinel_login == (("username", "s"), ("password", "x&y"))
    assert parsed.server_url == "redis://:pw@a:26379/2"


@pytest.mark.parametrize("kind", ["cluster://h", "sentinel://h/main"])
def test_tls_is_the_scheme_with_rediss(kind: str) -> None:
    parsed = RedisUrl.parse(f"rediss+{kind}?ssl_ca_certs=/ca.pem")
    assert parsed.server_url.startswith("rediss://h:")
    assert parsed.server_url.endswith("?ssl_ca_certs=%2Fca.pem")


@pytest.mark.parametrize(
    "url",
    [
        "h:6379",
        "http://h",
        "redis://:secret@h:port",
        "redis://:secret@h/x",
        "redis+cluster://",
        "redis+cluster://:secret@",
        "redis+cluster://:secret@h:0",
        "redis+cluster://:secret@h:70000",
        "redis+cluster://:secret@h/1",
        "redis+cluster://:secret@h,",
        "redis+cluster://:secret@x@h",
        "redis+cluster://:secret@h?socket_keepalive",
        "redis+sentinel://:secret@h",
        "redis+sentinel://:secret@h/main/x",
    ],
)
def test_an_ill_formed_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RedisUrl.parse(url)
    assert "secret" not in str(caught.value)


def test_a_value_hides_passwords() -> None:
    parsed = RedisUrl.parse("redis+sentinel://:secret@h/main?sentinel_password=secret")
    assert "secret" not in repr(parsed)
