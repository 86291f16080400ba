"""The named statements of this package, read from its `.sql` files."""

from functools import cache
from pathlib import Path
from typing import LiteralString

from faregate.domain.errors import ConfigurationError

_NAME = "-- name: "
_LEAF = "leaf_of(t)"


@cache
def statement(name: str, file: str = "queries.sql") -> LiteralString:
    """Return the statement called `name`.

    Raises:
        KeyError: The file has no statement of that name.
    """
    return statements(file)[name]


@cache
def statements(file: str) -> dict[str, LiteralString]:
    """Read all statements of a file that lies beside this module."""
    return parse(with_leaf(Path(__file__).with_name(file).read_text(encoding="utf-8")))


def with_leaf(text: str) -> str:
    """Replace the placeholder for the leaf of a row `t` by the expression in `leaf.sql`."""
    if _LEAF not in text:
        return text
    return text.replace(_LEAF, statement("leaf", "leaf.sql").removeprefix("select "))


def parse(text: str) -> dict[str, LiteralString]:
    """Split text into statements, each headed by `-- name: ...`; comments are left out.

    Raises:
        ConfigurationError: A name occurs twice, or heads no statement.
    """
    found: dict[str, LiteralString] = {}
    for block in text.split(_NAME)[1:]:
        name, *lines = block.splitlines()
        body = "\n".join(line for line in lines if not line.lstrip().startswith("--"))
        body = body.strip().removesuffix(";")
        if not body or name in found:
            raise ConfigurationError(f"the statement {name!r} is empty or occurs twice")
        # The text is part of the package, so it is as safe as a literal. Values from outside are
        # sent as parameters.
        found[name] = body
    return found
