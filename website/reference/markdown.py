"""Parts of Markdown that the pages are made of."""

from collections.abc import Iterable, Sequence

GENERATED = "<!-- Made from the code by `make reference`: do not edit. -->"


def page(title: str, *parts: str) -> str:
    """Return a page: its heading, and its parts with an empty line between them."""
    return "\n\n".join([f"# {title}", GENERATED, *parts]) + "\n"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; a bar in a cell is escaped."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(
        f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in lines
    )


def code(text: object) -> str:
    """Return what is typed as it stands."""
    return f"`{text}`"
