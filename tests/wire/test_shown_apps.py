"""The apps that the docs show, run by uvicorn, and asked as they say; e2e/ runs the README's."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from faregate import Settings
from waiting import WAIT_S_MAX, wait_for
from wire_client import Api, free_port

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)

#: The reader's own module, as it is shown for trying the examples.
AUTH = next(
    block
    for _, block in BLOCK.findall((ROOT / "docs/mount.md").read_text("utf-8"))
    if block.startswith("# myapp/auth.py\n")
)


@dataclass(frozen=True, slots=True)
class Shown:
    """An app, and what is asked of it."""

    name: str
    code: str
    #: Each request as it is typed, and the lines that must come.
    asked: Sequence[tuple[str, Sequence[str]]]


def shown_apps() -> Iterator[Shown]:
    """The apps of all pages that are followed by requests to them."""
    for page in PAGES:
        code, number = "", 0
        for language, block in BLOCK.findall(page.read_text("utf-8")):
            if language == "python":
                code = block if re.search(r"^app = ", block, re.M) else ""
            elif language == "console" and code and "$ curl" in block:
                parts = [part.splitlines() for part in block.split("$ ")[1:]]
                number += 1
                asked = [(line, expected) for line, *expected in parts]
                yield Shown(f"{page.name} {number}", code, asked)


APPS = list(shown_apps())


def test_there_are_apps_to_run() -> None:
    """A pattern that finds nothing would make all of this pass."""
    assert "mount.md 1" in {shown.name for shown in APPS}


@pytest.fixture
def signed_up(wire_settings: Settings) -> UUID:
    """A user of the database."""
    user = uuid4()
    with psycopg.connect(wire_settings.postgres_url, autocommit=True) as connection:
        connection.execute("insert into auth.users (id) values (%s)", [user])
    return user


def ask(api: Api, command: str) -> list[str]:
    """Send what a curl command sends; return status and fields, as `-i` shows them."""
    _, *words = shlex.split(command)
    method = "GET"
    fields: dict[str, Any] = {}
    while words[0].startswith("-"):
        option = words.pop(0)
        if option == "-X":
            method = words.pop(0)
        elif option == "-H":
            name, _, value = words.pop(0).partition(": ")
            fields[name.replace("-", "_")] = value
        else:
            assert option == "-i", option
    (url,) = words
    answer = api.ask(url.removeprefix("http://127.0.0.1:8000"), None, method, **fields)
    lines = [f"{name}: {value}" for name, value in answer.headers.items()]
    return [f"HTTP/1.1 {answer.status} {answer.reason}", *lines]


@pytest.mark.parametrize("shown", APPS, ids=lambda shown: shown.name)
def test_a_shown_app_answers_as_it_is_shown(
    shown: Shown, wire_settings: Settings, signed_up: UUID, tmp_path: Path
) -> None:
    """Under uvicorn, by requests over the wire."""
    (tmp_path / "myapp").mkdir()
    (tmp_path / "myapp/auth.py").write_text(AUTH, encoding="utf-8")
    (tmp_path / "shown.py").write_text(shown.code, encoding="utf-8")
    port = free_port()
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]),
        "FAREGATE_REDIS_URL": wire_settings.redis_url,
        "FAREGATE_POSTGRES_URL": wire_settings.postgres_url,
    }
    command = [sys.executable, "-m", "uvicorn", "shown:app", "--port", str(port)]
    with subprocess.Popen(command, env=environment, cwd=tmp_path) as process:
        api = Api(server="uvicorn", port=port, settings=wire_settings, process=process)
        try:
            wait_for(lambda: api.listens() or process.poll() is not None, "uvicorn listens")
            for line, expected in shown.asked:
                got = ask(api, line.replace("$TOKEN", str(signed_up)))
                assert set(expected) <= set(got), f"{line}: {got}"
        finally:
            process.terminate()
            process.wait(WAIT_S_MAX)
