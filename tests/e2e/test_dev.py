"""`faregate dev` and `faregate init`: what the README's first screen says, and how it ends."""

import io
import os
import re
import signal
import sys
import time
import venv
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from e2e.dev_rig import Dev, Shell, wait_until_gone
from installed import built, closure, new_environment
from waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
#: Set by `make picture`: the picture of the README is written anew.
WRITES_PICTURE = bool(os.environ.get("FAREGATE_TEST_WRITE_PICTURE"))
#: Set by `make test-install`: pip downloads what the README's first command needs.
INSTALLS = bool(os.environ.get("FAREGATE_TEST_INSTALL"))
COMMANDS_MAX = 12
S_MAX = 300
SHOWN_PORT = "http://127.0.0.1:8000"


def readme_blocks() -> list[list[list[str]]]:
    """The two blocks of the README's first screen: each command with the lines that must come."""
    section = (ROOT / "README.md").read_text("utf-8").partition("\n## Five minutes\n")[2]
    blocks = re.findall(r"^```console\n(.*?)^```", section, re.M | re.S)[:2]
    return [
        [part.splitlines() for part in block.split("$ ", 1)[1].split("\n$ ")] for block in blocks
    ]


@pytest.fixture
def shell(open_directory: Path) -> Shell:
    """A shell in a new folder, which the account of Postgres may pass."""
    return Shell(open_directory)


def install_as(line: str, folder: Path, wheel: Path) -> Shell:
    """Do what the README's first command does, in a new environment; return its shell."""
    found = re.fullmatch(r"pip install 'faregate\[(\w+)\]'", line)
    assert found is not None
    if not INSTALLS:
        python = new_environment(wheel, folder / "new", closure(wheel, found[1]))
        return Shell.of_environment(folder, python)
    venv.create(folder / "new", with_pip=True)
    shell = Shell.of_environment(folder, folder / "new/bin/python")
    shell.run(line.replace("faregate[", f"{wheel}["))
    return shell


def test_the_readmes_first_screen_leads_from_nothing_to_rows_in_postgres(
    open_directory: Path, tmp_path: Path
) -> None:
    """A 200, a 402, and a row, in a few commands and minutes; Ctrl-C leaves nothing running."""
    wheel = built("wheel", tmp_path / "wheel")
    began_s = time.monotonic()
    first, second = readme_blocks()
    assert len(first) + len(second) <= COMMANDS_MAX
    (install,), (init,), (enter,), (run,) = first
    shell = install_as(install, open_directory, wheel)
    shell.run(init)
    shell.folder /= enter.removeprefix("cd ")
    with Dev(shell, run) as dev:
        dev.wait_for_line("Application startup complete")
        shown = [(run, banner(dev))]
        for line, *expected in second:
            command = f". .faregate/env; {line.replace(SHOWN_PORT, dev.app_url)}"
            shown.append((line, follow(shell, command, expected)))
        assert_charged(dev, shell)
        taken_s = time.monotonic() - began_s
        sys.stderr.write(f"{len(first) + len(second)} commands, {taken_s:.0f} s\n")
        assert not INSTALLS or taken_s < S_MAX
        pids = dev.family()
        assert len(pids) > 5
        assert dev.end(signal.SIGINT) == 128 + signal.SIGINT
    wait_until_gone(pids)
    if WRITES_PICTURE:
        draw([(install, ""), (init, ""), (enter, ""), *shown])


def follow(shell: Shell, command: str, expected: list[str]) -> str:
    """Run what the README shows, and find what it says; what only looks may need a while."""
    said = ""

    def comes() -> bool:
        nonlocal said
        said = shell.run(command)
        return set(expected) <= set(said.replace("\r", "").splitlines())

    if " faregate history" in command:
        wait_for(lambda: comes() and said.count("deduct") == 3, "the rows")
    elif " faregate " in command:
        wait_for(comes, command)
    else:
        assert comes(), said
    return said


def assert_charged(dev: Dev, shell: Shell) -> None:
    """The page shows the same numbers, and Postgres holds the rows."""
    state = dev.state()
    assert state["users"][0]["credits"] == 0
    assert [row["amount"] for row in state["rows"]] == [-1, -1, -1, 3]
    assert (state["pending"], state["dead_letters"], state["drift"]) == (0, 0, [])
    assert "<title>faregate dev" in shell.run(f"curl -s {dev.page_url}/")


@pytest.mark.long
def test_a_crash_is_reported_data_stays_and_no_process_outlives_a_kill(shell: Shell) -> None:
    """The app comes back with the next change; the token and the balance with the next run."""
    shell.run("faregate init .")
    asked = 'curl -s -H "Authorization: Bearer {}" {}/'
    with Dev(shell, "faregate dev app:app") as dev:
        token = dev.token
        assert shell.run(asked.format(token, dev.app_url)) == "2 credits left\n"
        app = shell.folder / "app.py"
        code = app.read_text("utf-8")
        app.write_text(f"{code}\nraise RuntimeError('broken here')\n", encoding="utf-8")
        dev.wait_for_line("RuntimeError: broken here")
        dev.wait_for_line("the app ended with status 1: change a file")
        app.write_text(code.replace("credits left", "left"), encoding="utf-8")
        dev.wait_for_line("Application startup complete", count=2)
        assert shell.run(asked.format(token, dev.app_url)) == "1 left\n"
        pids = dev.family()
        dev.end(signal.SIGKILL)
    wait_until_gone(pids)
    with Dev(shell, "faregate dev app:app") as dev:
        assert dev.token == token
        assert shell.run(asked.format(token, dev.app_url)) == "0 left\n"
    with Dev(shell, "faregate dev app:app --fresh") as dev:
        assert dev.token != token
        assert shell.run(asked.format(dev.token, dev.app_url)) == "2 left\n"


def banner(dev: Dev) -> str:
    """What it says at its start."""
    return "".join(dev.said[: dev.said.index("Ctrl-C stops everything.\n") + 1])


def draw(shown: list[tuple[str, str]]) -> None:
    """Write the picture: the commands, and what came, with the port of the README and no secret."""
    lines = [line for command, said in shown for line in (f"$ {command}", *said.splitlines())]
    plain = re.sub(r"fg_\w+", "fg_...", "\n".join(line.rstrip() for line in lines))
    for number, port in enumerate(re.findall(r"http://127\.0\.0\.1:(\d+)", shown[3][1])[:2]):
        plain = plain.replace(f":{port}", f":{8000 + number}")
    text = Text(plain)
    text.highlight_regex(r"(?m)^\$ .*$", "bold green")
    console = Console(record=True, width=max(map(len, plain.splitlines())), file=io.StringIO())
    console.print(text, no_wrap=True)
    svg = console.export_svg(title="faregate dev")
    # The fonts of a viewer will do, and nothing is loaded from elsewhere.
    svg = re.sub(r"@font-face \{.*?\}\n", "", svg, flags=re.S)
    (ROOT / "docs/dev.svg").write_text(svg, encoding="utf-8")
