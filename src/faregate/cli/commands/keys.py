"""`faregate keys`: makes, lists and revokes the API keys of users."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

import typer

from faregate.bootstrap import open_api_key_admin
from faregate.cli.conventions import Json, members, print_result
from faregate.config import read_settings
from faregate.domain.api_key import ApiKey, NewApiKey
from faregate.domain.errors import InvalidArgumentError
from faregate.ports import ApiKeyAdmin

DAYS_MAX = 36_500
_PAGE_COUNT_MAX = 1_000

app = typer.Typer(help="Create, list and revoke the API keys of users.", no_args_is_help=True)


@app.command()
def create(
    user: Annotated[UUID, typer.Option(help="The id of an existing user.")],
    name: Annotated[str, typer.Option(help="The purpose of the key.")],
    tier: Annotated[
        str | None, typer.Option(help="The tier of requests with this key, not the user's.")
    ] = None,
    expires_in_days: Annotated[
        int | None, typer.Option(min=1, max=DAYS_MAX, help="The lifetime of the key in days.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Create a key, and print it once.

    Example: faregate keys create --user 7b1a3a3e-2f61-4f5b-9b0e-6d1c0a1f2e3d --name "build server"
    """
    now = datetime.now(UTC)
    expires_at = None if expires_in_days is None else now + timedelta(days=expires_in_days)
    new = NewApiKey.mint(user, name, now=now, tier=tier, expires_at=expires_at)
    with open_api_key_admin(read_settings()) as admin:
        admin.create(new)
    print_result(plain_api_key(new.key) | {"key": new.text}, [new.text], as_json=as_json)
    if not as_json:
        print("This key is shown only once: store it now.", file=sys.stderr)


@app.command("list")
def list_api_keys(
    user: Annotated[UUID | None, typer.Option(help="The user; all users by default.")] = None,
    as_json: Json = False,
) -> None:
    """List keys, oldest first, with user, name and times, and without secrets.

    Example: faregate keys list --user 7b1a3a3e-2f61-4f5b-9b0e-6d1c0a1f2e3d
    """
    with open_api_key_admin(read_settings()) as admin:
        keys = list(_all(admin, user))
    print_result([plain_api_key(key) for key in keys], as_json=as_json)


@app.command()
def revoke(
    api_key_id: Annotated[
        UUID, typer.Argument(metavar="ID", help="An id from `faregate keys list`.")
    ],
    as_json: Json = False,
) -> None:
    """Revoke a key, for good. APIs refuse it within the lifetime of their cache (30 s).

    Example: faregate keys revoke 0199f5d2c6a07c1e8f0a3b5d7e9f1a2b
    """
    with open_api_key_admin(read_settings()) as admin:
        key = admin.revoke(api_key_id)
    if key is None:
        raise InvalidArgumentError(f"there is no API key {api_key_id.hex}")
    print_result(plain_api_key(key), [f"revoked {key.id.hex}"], as_json=as_json)


def _all(admin: ApiKeyAdmin, user: UUID | None) -> Iterator[ApiKey]:
    after = None
    while page := admin.keys(user, after, _PAGE_COUNT_MAX):
        yield from page
        after = page[-1].id


def plain_api_key(key: ApiKey) -> dict[str, object]:
    """Return a key as plain data: its id as in the key itself, times in UTC."""
    return members(key) | {"id": key.id.hex}
