"""Holds that a page of docs/ is what the code says, or writes it where FAREGATE_TEST_WRITE=1."""

import os
from pathlib import Path

_DOCS = Path(__file__).resolve().parents[1] / "docs"
_WRITES = os.environ.get("FAREGATE_TEST_WRITE") == "1"


def check_page(name: str, text: str) -> None:
    """Compare a page, or write it."""
    page = _DOCS / name
    if _WRITES:
        page.write_text(text, encoding="utf-8")
    assert page.read_text("utf-8") == text, f"docs/{name} is not current: run `make reference`"
