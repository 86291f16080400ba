"""`faregate access`: prints roles of Postgres and users of Redis, to review and to run."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from functools import partial
from typing import Annotated

import typer

from faregate.adapters.postgres.access import ROLES
from faregate.adapters.postgres.roles import OTHER_PURPOSES, roles_sql
from faregate.adapters.redis.access import SENTINEL, USERS, RedisUser
from faregate.cli.conventions import Json, error_console, print_result


class Part(StrEnum):
    """The parts that can be printed alone."""

    SQL = "sql"
    REDIS = "redis"
    #: For sentinels, which have users of their own.
    SENTINEL = "sentinel"


def access(
    part: Annotated[
        Part | None, typer.Option(help="Print only this part, as input for psql or redis-cli.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print the roles of Postgres and the users of Redis that Faregate needs, without passwords.

    It connects to no server and changes nothing. Run the part of Redis on each node of a cluster
    and on each replica, since no server copies its users to another.

    Example: faregate access --part sql | psql
    """
    parts = list(Part) if part is None else [part]
    plain = {each.value: _PLAIN[each]() for each in parts}
    if part in _PLACES and not as_json:
        error_console().print(_PLACES[part], soft_wrap=True)
    print_result(plain, _lines(parts), as_json=as_json)


def _lines(parts: list[Part]) -> Iterator[str]:
    has_comments = len(parts) > 1
    if Part.SQL in parts:
        yield from roles_sql().splitlines()
    for part, users in _USERS.items():
        if part in parts and has_comments:
            yield ""
            yield f"-- `faregate access --part {part} | redis-cli` runs what follows."
            yield f"-- {_PLACES[part]}"
            yield from (f"-- {user.name}: {user.purpose}" for user in users)
        if part in parts:
            yield from _acls(users)


def _acls(users: Sequence[RedisUser]) -> Iterator[str]:
    """Iterate over the commands, those last that older servers refuse."""
    yield from (user.acl for user in users)
    yield from (user.newer_acl for user in users if user.newer_acl)


def _sql() -> dict[str, object]:
    roles = [
        {"name": role.name, "purpose": role.purpose, "rights": [str(one) for one in role.rights]}
        for role in ROLES
    ]
    others = [{"name": name, "purpose": purpose} for name, purpose in OTHER_PURPOSES.items()]
    return {"roles": roles + others, "sql": roles_sql()}


def _redis(users: Sequence[RedisUser]) -> dict[str, object]:
    described = [
        {
            "name": user.name,
            "purpose": user.purpose,
            "keys": user.patterns,
            "channels": user.channels,
            "commands": user.commands,
            "acl": user.acl,
            "newer_acl": user.newer_acl,
        }
        for user in users
    ]
    return {"users": described}


_PLACES = {
    Part.REDIS: "Run it on each server, on all nodes of a cluster and on all replicas, since no"
    " server copies its users to another.",
    Part.SENTINEL: "Run it on each sentinel, since no sentinel copies its users to another.",
}
_USERS: Mapping[Part, Sequence[RedisUser]] = {Part.REDIS: USERS, Part.SENTINEL: (SENTINEL,)}
_PLAIN: Mapping[Part, Callable[[], dict[str, object]]] = {
    Part.SQL: _sql,
    Part.REDIS: partial(_redis, USERS),
    Part.SENTINEL: partial(_redis, (SENTINEL,)),
}
