"""The site, built once, served on a loopback port and opened as files, in a headless Chromium."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

from website.navigation import ROOT
from website.tests.tabs import Tab


class Quiet(SimpleHTTPRequestHandler):
    """Serves files, and logs nothing."""

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent: the browser sees what fails."""


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site; it builds without a warning."""
    folder = tmp_path_factory.mktemp("site")
    subprocess.run([sys.executable, "-m", "website", str(folder)], cwd=ROOT, check=True)
    return folder


@pytest.fixture(scope="session")
def served(site: Path) -> Iterator[str]:
    """The site on a port of the loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A Chromium of the system: playwright's own would have to be downloaded."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.exit("Chromium is missing; on Debian and Ubuntu: apt-get install chromium", 2)
    # Root has no sandbox.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=arguments)
        yield started
        started.close()


@pytest.fixture(scope="session")
def tabs(browser: Any, site: Path, served: str) -> dict[str, Tab]:
    """A tab for the site on a server, and one for its files; a new one for each test takes long."""
    return {
        name: Tab(browser.new_page(), base)
        for name, base in {"served": served, "files": site.as_uri()}.items()
    }


@pytest.fixture(params=["served", "files"])
def tab(request: pytest.FixtureRequest, tabs: dict[str, Tab]) -> Iterator[Tab]:
    """A tab; at the end of the test, nothing has failed in it."""
    opened = tabs[request.param]
    opened.faults.clear()
    yield opened
    assert opened.faults == []
