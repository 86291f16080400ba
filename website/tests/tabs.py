"""A tab of the browser, which remembers what fails in it."""

from typing import Any
from urllib.parse import urlsplit


class Tab:
    """A tab of the browser, and what went wrong in it."""

    def __init__(self, page: Any, base: str) -> None:
        self.page = page
        self.base = base
        self.faults: list[str] = []
        page.on("console", lambda message: self._said(message.type, message.text))
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("requestfailed", lambda request: self._failed(request.url, request.failure))
        page.on("request", lambda request: self._requested(request.url))
        page.on("response", lambda response: self._answered(response.url, response.status))

    def open(self, name: str) -> None:
        """Open a page of the site."""
        self.page.goto(f"{self.base}/{name}")

    def _said(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"}:
            self.faults.append(text)

    def _failed(self, url: str, why: str) -> None:
        # The next page of the tab ends what the last one has still asked for, such as its icon.
        if why != "net::ERR_ABORTED":
            self.faults.append(f"{why}: {url}")

    def _requested(self, url: str) -> None:
        if urlsplit(url).netloc != urlsplit(self.base).netloc and not url.startswith("data:"):
            self.faults.append(f"another host: {url}")

    def _answered(self, url: str, status: int) -> None:
        if status >= 400:
            self.faults.append(f"{status}: {url}")
