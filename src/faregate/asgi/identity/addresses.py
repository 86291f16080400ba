"""The address of a client, for limits on people who have not said who they are.

An address is no identity: one serves a whole office, and one person has many. It is used only
where `anonymous` is asked for by name, and X-Forwarded-For is read only where the peer, and each
hop after it, is a proxy that was named. Everything to the left of the first hop that was not named
is what a client wrote.
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

#: How many proxies may stand between a client and this process, unless said otherwise.
HOPS_MAX = 5
#: A site gets this much of IPv6 (RFC 6177), and may take another address for each request.
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
        ConfigurationError: One is none, or is the whole internet, whose word is nobody's.
    """
    if isinstance(names, str):
        raise ConfigurationError(f"networks are a list, such as [{names!r}]; this is one text")
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
    """Return the address of who sent a request, or None if it cannot be told.

    From the peer on it walks through X-Forwarded-For from the right, as long as it meets proxies
    that are trusted, and returns the first address that is none, or the last there is.

    Args:
        scope: Of the request. Its peer must be who really connected: uvicorn is started with
            `--no-proxy-headers`, or it puts what a header says in the place of the peer.
        trusted_proxies: Those that write whom they got a request from to the end of the header.
        hops_max: How many entries are read at most. A longer way, or an entry that is no address,
            leads to None.
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
    """Take a client's address for a user, IPv6 by its /64: everybody behind it shares the credits.

    The last one in `first_of`. The users it makes up must be provisioned.

    Args:
        namespace: Maps addresses to users.
        trusted_proxies: Networks and addresses of proxies, see `client_address`. By default none:
            the peer is the client.
        hops_max: How many proxies may stand between.
        tier: Whose policy holds for anonymous requests.
        credential_fields: A request that carries one of these is not anonymous: whoever sends a
            wrong credential is told so by a 401.
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
    # Over a unix socket there is none. The zone of a link-local address names an interface here.
    client = scope.get("client")
    return _address(str(client[0]).partition("%")[0]) if client else None


def _hops(scope: Scope, hops_max: int) -> Iterator[str]:
    """Iterate over the entries of all lines of the header, from the right."""
    lines = [value for name, value in scope["headers"] if name == _FIELD]
    for line in reversed(lines):
        # Nobody reads further, so what may be very long is not split to its end.
        yield from reversed(line.decode("latin-1").rsplit(",", hops_max))


def _parse(hop: str) -> Address | None:
    found = _ENTRY.fullmatch(hop.strip(" \t"))
    return _address(next(filter(None, found.groups()))) if found else None


def _address(text: str) -> Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    # A socket for both versions shows IPv4 in IPv6, and one client must not have two addresses.
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
