"""The address of a client: the peer, or what named proxies say, and never what a client says."""

from collections.abc import Sequence
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import Scope

from asgi_client import http_scope
from faregate import user_id_of
from faregate.asgi.identity import Caller, anonymous, caller_of, client_address, networks
from faregate.asgi.identity.addresses import HOPS_MAX
from faregate.domain.errors import ConfigurationError

NAMESPACE = UUID("0c7d5a0e-7c3e-5c53-9d7e-3f6f0f8a8f11")
PROXIES = networks(["10.0.0.0/8", "2001:db8:1::/48"])


def request(peer: object, *lines: str) -> Scope:
    """The scope of a request from a peer, with these lines of X-Forwarded-For."""
    headers = [(b"x-forwarded-for", line.encode("latin-1")) for line in lines]
    return {**http_scope(headers=headers), "client": peer}


def found(peer: str, *lines: str, hops_max: int = HOPS_MAX) -> str | None:
    """The address that is found for such a request, behind the proxies of these tests."""
    address = client_address(request((peer, 4711), *lines), PROXIES, hops_max)
    return None if address is None else str(address)


def test_the_peer_is_the_client_unless_it_is_a_proxy() -> None:
    """What it says about others counts for nothing then."""
    assert found("203.0.113.7", "1.1.1.1") == "203.0.113.7"
    assert found("2001:db8:2::1", "1.1.1.1") == "2001:db8:2::1"
    assert found("10.0.0.1") == "10.0.0.1"
    assert str(client_address(request(("10.0.0.1", 1), "1.1.1.1"), ())) == "10.0.0.1"


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        (["203.0.113.7"], "203.0.113.7"),
        (["203.0.113.7, 10.0.0.2, 10.0.0.3"], "203.0.113.7"),
        (["203.0.113.7", "10.0.0.2", "10.0.0.3"], "203.0.113.7"),
        (["6.6.6.6, 203.0.113.7,10.0.0.2"], "203.0.113.7"),
        (["6.6.6.6", "203.0.113.7"], "203.0.113.7"),
        (["10.0.0.9, 10.0.0.2"], "10.0.0.9"),
        (["203.0.113.7:4711"], "203.0.113.7"),
        (["2001:db8:2::1"], "2001:db8:2::1"),
        (["[2001:db8:2::1]"], "2001:db8:2::1"),
        (["[2001:DB8:2::1]:443, 2001:db8:1::7"], "2001:db8:2::1"),
        (["::ffff:203.0.113.7, ::ffff:10.0.0.2"], "203.0.113.7"),
        (["  203.0.113.7\t"], "203.0.113.7"),
    ],
)
def test_trusted_proxies_are_walked_from_the_right(lines: Sequence[str], client: str) -> None:
    """Over lines, versions, ports; what stands left of the client is what it made up."""
    assert found("10.0.0.1", *lines) == client


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "unknown",
        "_hidden",
        "localhost",
        "203.0.113.256",
        "203.0.113",
        "0203.0.113.7",
        "203.0.113.7:",
        "203.0.113.7:123456",
        "[203.0.113.7",
        "[2001:db8:2::1]x",
        "fe80::1%eth0",
        '"203.0.113.7"',
        "for=203.0.113.7",
        "203.0.113.7 10.0.0.1",
        "٢٠٣.0.113.7".encode().decode("latin-1"),
        "\x00",
        "{}",
        "1" * 70_000,
    ],
    ids=lambda entry: ascii(entry)[:30],
)
def test_an_entry_that_is_no_address_has_no_user(entry: str) -> None:
    """A proxy that is trusted wrote it, so what is left of it would be a guess."""
    assert found("10.0.0.1", f"6.6.6.6, {entry}") is None
    assert found("10.0.0.1", f"6.6.6.6, {entry}, 203.0.113.7") == "203.0.113.7"


def test_too_many_hops_have_no_user() -> None:
    """However long the header is, so many entries are read and no more."""
    assert found("10.0.0.1", "203.0.113.7, 10.0.0.2", hops_max=2) == "203.0.113.7"
    assert found("10.0.0.1", "203.0.113.7, 10.0.0.2, 10.0.0.3", hops_max=2) is None
    assert found("10.0.0.1", *["10.0.0.2"] * (HOPS_MAX + 1)) is None
    assert found("10.0.0.1", "10.0.0.2," * 10_000 + "10.0.0.2") is None
    assert found("10.0.0.1", "6.6.6.6," * 10_000 + "203.0.113.7") == "203.0.113.7"


@pytest.mark.parametrize("peer", [None, ("", 0), ("testclient", 50_000)], ids=repr)
def test_a_peer_without_an_address_has_no_user(peer: object) -> None:
    """Such as over a unix socket: nobody has been named as a proxy."""
    assert client_address(request(peer, "1.1.1.1"), PROXIES) is None


def test_the_zone_of_a_peer_is_none_of_its_address() -> None:
    """It names an interface of this machine."""
    assert found("fe80::1%eth0") == "fe80::1"


@settings(deadline=None, derandomize=True)
@given(st.lists(st.binary(max_size=60), max_size=4))
def test_a_client_cannot_forge_its_address(lines: list[bytes]) -> None:
    """A proxy adds the address of its peer at the end, so nothing before it matters."""
    fields = [(b"x-forwarded-for", line) for line in [*lines, b"203.0.113.7"]]
    scope = {**http_scope(headers=fields), "client": ("10.0.0.1", 1)}
    assert str(client_address(scope, PROXIES)) == "203.0.113.7"
    direct = {**scope, "client": ("203.0.113.7", 1)}
    assert str(client_address(direct, PROXIES)) == "203.0.113.7"


@pytest.mark.parametrize("name", ["0.0.0.0/0", "::/0", "10.0.0.1/8", "proxy", "", "10.0.0.0/33"])
def test_a_proxy_is_named_by_its_address(name: str) -> None:
    """Everybody is no proxy, and a network that is not quite one is a mistake."""
    with pytest.raises(ConfigurationError):
        networks([name])
    with pytest.raises(ConfigurationError):
        anonymous(NAMESPACE, trusted_proxies=name)


async def test_an_anonymous_client_is_the_user_of_its_address() -> None:
    """By default the peer's, whatever the header says; the tier is that of all of them."""
    identify = anonymous(NAMESPACE, tier="anonymous")
    caller = await caller_of(identify, request(("203.0.113.7", 1), "1.1.1.1"))
    user_id = user_id_of(NAMESPACE, "203.0.113.7")
    assert caller == Caller(user_id=user_id, tier="anonymous")
    assert await caller_of(identify, request(None)) is None


async def test_behind_named_proxies_the_client_counts() -> None:
    """Else everybody would share the credits of the proxy."""
    identify = anonymous(NAMESPACE, trusted_proxies=["10.0.0.1"], hops_max=1)
    for line, user_id in (
        ("203.0.113.7", user_id_of(NAMESPACE, "203.0.113.7")),
        ("6.6.6.6, 203.0.113.7", user_id_of(NAMESPACE, "203.0.113.7")),
    ):
        caller = await caller_of(identify, request(("10.0.0.1", 1), line))
        assert caller == Caller(user_id=user_id)
    assert await caller_of(identify, request(("10.0.0.1", 1), "x")) is None


async def test_ipv6_addresses_of_one_site_are_one_user() -> None:
    """A site has 2^64 of them, and could take another for each request."""
    identify = anonymous(NAMESPACE)
    callers = [
        await caller_of(identify, request((peer, 1)))
        for peer in ("2001:db8:2:3::1", "2001:db8:2:3:ffff::2", "2001:db8:2:4::1", "::ffff:1.2.3.4")
    ]
    assert callers[0] == callers[1] == Caller(user_id=user_id_of(NAMESPACE, "2001:db8:2:3::/64"))
    assert callers[2] not in callers[:2]
    assert callers[3] == Caller(user_id=user_id_of(NAMESPACE, "1.2.3.4"))


async def test_a_request_with_a_credential_is_not_anonymous() -> None:
    """A wrong one is a 401, and not somebody else's credits."""
    scope = request(("203.0.113.7", 1))
    scope["headers"].append((b"authorization", b"Bearer expired"))
    assert await caller_of(anonymous(NAMESPACE), scope) is None
    by_key = anonymous(NAMESPACE, credential_fields=["X-API-Key"])
    assert await caller_of(by_key, scope) is not None
    scope["headers"].append((b"x-api-key", b""))
    assert await caller_of(by_key, scope) is None
