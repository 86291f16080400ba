"""The search, from a server and from a file."""

import pytest

from website.tests.tabs import Tab

#: A term, and the page that is about it.
KNOWN = {
    "PgBouncer": "docs/operate.html",
    "FAREGATE_STORED_MS": "docs/settings.html",
    "key_in_flight": "docs/problems.html",
    "refund_by_id": "api/faregate.html",
}


@pytest.mark.parametrize("term", KNOWN)
def test_search_finds_a_term_and_leads_to_its_page(tab: Tab, term: str) -> None:
    """As a reader does: typed into the field, and the result clicked."""
    tab.open("docs/mount.html")
    field = tab.page.locator(".sidebar-search")
    field.fill(term)
    field.press("Enter")
    results = tab.page.locator("#search-results li a")
    results.first.wait_for()
    found = results.evaluate_all("links => links.map(link => link.href)")
    index = next(n for n, link in enumerate(found) if KNOWN[term] in link)
    results.nth(index).click()
    tab.page.wait_for_url(f"**/{KNOWN[term]}*")
    assert term in tab.page.locator("article").inner_text()


def test_what_nobody_wrote_is_not_found(tab: Tab) -> None:
    """And that is said."""
    tab.open("search.html?q=zyzzyva")
    tab.page.get_by_text("did not match any documents").wait_for()
