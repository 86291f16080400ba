"""What is expected of a schema is what the migrations make; `make schema` writes it down."""

import os

import pytest

from faregate.adapters.postgres import schema
from faregate.adapters.postgres.schema import lines_of
from integration.schema_layouts import made_by_migrations

pytestmark = pytest.mark.postgres


def test_the_file_equals_the_schema_of_the_migrations(postgres_admin_url: str) -> None:
    """In every layout of a database, on whichever Postgres; `make schema` writes it anew."""
    made = "".join(lines_of(made_by_migrations(postgres_admin_url)))
    if os.environ.get("FAREGATE_TEST_WRITE_SCHEMA"):
        schema._EXPECTED.write_text(made, encoding="utf-8")
    written = schema._EXPECTED.read_text(encoding="utf-8")
    assert made.splitlines() == written.splitlines(), "run `make schema`"
