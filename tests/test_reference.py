"""Pages of reference are what the code says; `make reference` writes them."""

import pytest

from faregate import Settings
from reference_pages import check_page
from website.reference.commands import commands_page
from website.reference.settings import settings_page

PAGES = {"settings.md": settings_page, "commands.md": commands_page}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_of_reference_is_current(name: str) -> None:
    """The page of metrics needs servers: integration/test_deploy.py."""
    check_page(name, PAGES[name]())


def test_each_setting_has_a_group_and_a_meaning() -> None:
    """A sentence, whose name and type alone do not tell it."""
    sections = settings_page().split("\n### ")
    assert "## Servers" in sections[0]
    assert len(sections) == 1 + len(Settings.model_fields)
    assert [
        one for one in sections[1:] if not one.partition("\n## ")[0].rstrip().endswith(".")
    ] == []
