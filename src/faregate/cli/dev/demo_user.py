"""The user of `faregate dev`, and the API key that is its token."""

from datetime import UTC, datetime
from uuid import UUID

import psycopg

from faregate.adapters.postgres.connection import unavailable
from faregate.bootstrap import open_api_key_admin
from faregate.cli.dev.folder import DevFolder
from faregate.config import Settings
from faregate.domain.api_key import NewApiKey, PresentedApiKey

#: The same in each folder, so that documentation can show it.
DEMO_USER = UUID("0190f5a0-0000-7000-8000-0000000000d0")
_KEYS_MAX = 1_000


def sign_in(settings: Settings, folder: DevFolder) -> str:
    """Create the user if it is missing, and return a valid token of it."""
    with unavailable("sign the demo user up"), psycopg.connect(settings.postgres_url) as connection:
        query = "insert into auth.users (id) values (%s) on conflict do nothing"
        connection.execute(query, [DEMO_USER])
    with open_api_key_admin(settings) as admin:
        now = datetime.now(UTC)
        presented = PresentedApiKey.parse(folder.token)
        for key in admin.keys(DEMO_USER, None, _KEYS_MAX):
            if presented is not None and key.id == presented.id and key.is_in_force(now):
                return folder.token
        new = NewApiKey.mint(DEMO_USER, "faregate dev", now=now)
        admin.create(new)
    folder.save_token(new.text)
    return new.text
