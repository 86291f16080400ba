"""The address of a client, to limit anonymous requests.

An address is no identity: a whole office shares one, and a person has many. It is used only with
`anonymous`, and X-Forwarded-For is read only as far as the peer and the hops before it are trusted
proxies. A client can forge everything to the left of the first hop that is not trusted.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import TypeAlias
from uuid import UUID

from starlette.types import Scope

from faregate.asgi.identity.caller import Caller, Identify
from faregate.domain.errors import ConfigurationError
from faregate.domain.user import user_id_of

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

#: The default of the most proxies between a client and this process.
HOPS_MAX = 5
#: A site gets this much of IPv6 (RFC 6177), and may use another address for each request.
_SITE_PREFIX_LENGTH = 64

_FIELD = b"x-forwarded-for"
_ENTRY = re.compile(
    r"\[(?P<bracketed>[0-9a-f:.]+)\](?::[0-9]{1,5})?"
    r"|(?P<v4>[0-9.]+)(?::[0-9]{1,5})?"
    r"|(?P<v6>[0-9a-f:.]+)",
    re.ASCII | re.IGNORECASE,
)


def networks(names: Iterable[str]) -> tuple[Network, ...]:
    """Read networks, such as `10.0.0.0/8`, and addresses.

    Raises:
        ConfigurationError: One is ill-formed, or is the whole internet, which cannot be trusted.
    """
    if isinstance(names, str):
        raise ConfigurationError(
            f"networks must be a list, such as [{names!r}]; this is a single text"
        )
    found = []
    for name in names:
        try:
            network = ip_network(name)
        except ValueError as error:
            raise ConfigurationError(f"{name!r} is neither a network nor an address") from error
        if network.prefixlen == 0:
            raise ConfigurationError(f"{name!r} is everybody: any client could forge its address")
        found.append(network)
    return tuple(found)


def client_address(
    scope: Scope, trusted_proxies: Sequence[Network], hops_max: int = HOPS_MAX
) -> Address | None:
    """Return the address of the client of a request, or None if it is not known.

    It begins at the peer and goes through X-Forwarded-For from the right, as long as the hops are
    trusted proxies. It returns the first address that is no trusted proxy, else the last one.

    Args:
        scope: The scope of the request. Its peer must be the real one: start uvicorn with
            `--no-proxy-headers`, since otherwise it replaces the peer by a header.
        trusted_proxies: Proxies that append the address of their client to the header.
        hops_max: The most entries that are read. More trusted hops, or an entry that is no address,
            give None.
    """
    address = _peer(scope)
    for hops, hop in enumerate(_hops(scope, hops_max)):
        if address is None or not any(address in network for network in trusted_proxies):
            return address
        if hops == hops_max:
            return None
        address = _parse(hop)
    return address


def anonymous(
    namespace: UUID,
    *,
    trusted_proxies: Iterable[str] = (),
    hops_max: int = HOPS_MAX,
    tier: str | None = None,
    credential_fields: Iterable[str] = ("authorization",),
) -> Identify:
    """Use a client's address as its user, IPv6 by its /64: clients behind it share credits.

    Put it last in `first_of`. Its users must be provisioned.

    Args:
        namespace: Maps addresses to users.
        trusted_proxies: Networks and addresses of proxies; see `client_address`. By default there
            are none, and the peer is the client.
        hops_max: The most proxies in between.
        tier: The tier of anonymous requests.
        credential_fields: A request with one of these fields is not anonymous. A wrong credential
            gives a 401.
    """
    trusted = networks(trusted_proxies)
    fields = {name.lower().encode() for name in credential_fields}

    def identify(scope: Scope) -> Caller | None:
        if any(name in fields for name, _ in scope["headers"]):
            return None
        address = client_address(scope, trusted, hops_max)
        if address is None:
            return None
        return Caller(user_id=user_id_of(namespace, _site(address)), tier=tier)

    return identify


def _site(address: Address) -> str:
    if isinstance(address, IPv4Address):
        return str(address)
    return str(IPv6Network((address, _SITE_PREFIX_LENGTH), strict=False))


def _peer(scope: Scope) -> Address | None:
    # A unix socket has no address. The zone of a link-local address names a local interface.
    client = scope.get("client")
    return _address(str(client[0]).partition("%")[0]) if client else None


def _hops(scope: Scope, hops_max: int) -> Iterator[str]:
    """Iterate over the entries of all lines of the header, from the right."""
    lines = [value for name, value in scope["headers"] if name == _FIELD]
    for line in reversed(lines):
        # A long field is split only as far as it is read.
        yield from reversed(line.decode("latin-1").rsplit(",", hops_max))


def _parse(hop: str) -> Address | None:
    found = _ENTRY.fullmatch(hop.strip(" \t"))
    return _address(next(filter(None, found.groups()))) if found else None


def _address(text: str) -> Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    # A dual-stack socket shows IPv4 as IPv6, and a client must not have two addresses.
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
