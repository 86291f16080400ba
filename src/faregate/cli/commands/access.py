"""`faregate access`: prints roles of Postgres and users of Redis, to review and to run."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated

import typer

from faregate.adapters.postgres.access import ROLES
from faregate.adapters.postgres.roles import OTHER_PURPOSES, roles_sql
from faregate.adapters.redis.access import USERS
from faregate.cli.conventions import Json, print_result


class Part(StrEnum):
    """The parts that can be printed alone."""

    SQL = "sql"
    REDIS = "redis"


def access(
    part: Annotated[
        Part | None, typer.Option(help="Print only this part, as input for psql or redis-cli.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print the roles of Postgres and the users of Redis that Faregate needs, without passwords.

    It connects to no server and changes nothing.

    Example: faregate access --part sql | psql
    """
    parts = list(Part) if part is None else [part]
    plain = {each.value: _sql() if each is Part.SQL else _redis() for each in parts}
    print_result(plain, _lines(parts), as_json=as_json)


def _lines(parts: list[Part]) -> Iterator[str]:
    if Part.SQL in parts:
        yield from roles_sql().splitlines()
    if len(parts) > 1:
        yield ""
        yield "-- Redis: `faregate access --part redis | redis-cli` runs what follows."
        for user in USERS:
            yield f"-- {user.name}: {user.purpose}"
    if Part.REDIS in parts:
        yield from (user.acl for user in USERS)


def _sql() -> dict[str, object]:
    roles = [
        {"name": role.name, "purpose": role.purpose, "rights": [str(one) for one in role.rights]}
        for role in ROLES
    ]
    others = [{"name": name, "purpose": purpose} for name, purpose in OTHER_PURPOSES.items()]
    return {"roles": roles + others, "sql": roles_sql()}


def _redis() -> dict[str, object]:
    users = [
        {
            "name": user.name,
            "purpose": user.purpose,
            "keys": user.patterns,
            "channels": user.channels,
            "commands": user.commands,
            "acl": user.acl,
        }
        for user in USERS
    ]
    return {"users": users}
