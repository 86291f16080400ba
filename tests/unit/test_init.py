"""`faregate init`: a small project that works, and never at the cost of another one."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from commands import CommandLine
from waiting import WAIT_S_MAX

README = Path(__file__).resolve().parents[2] / "README.md"
FILES = {"app.py", "test_app.py", "pyproject.toml", ".gitignore", "README.md"}


def test_the_tests_of_a_new_project_pass(command_line: CommandLine, tmp_path: Path) -> None:
    """By `pytest` in its folder, and git passes over the data of `faregate dev`."""
    assert command_line.run("init", tmp_path / "new").code == 0
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:faker", "-p", "no:cacheprovider"],
        cwd=tmp_path / "new",
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=WAIT_S_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
    assert ".faregate/\n" in (tmp_path / "new/.gitignore").read_text("utf-8")


@pytest.mark.parametrize("name", sorted(FILES))
def test_nothing_is_overwritten(command_line: CommandLine, tmp_path: Path, name: str) -> None:
    """Where one file is there, none is written, and it is named."""
    (tmp_path / name).write_text("mine", encoding="utf-8")
    said = command_line.run("init", tmp_path)
    assert said.code == 2
    assert said.err.rstrip().endswith(f": {name}")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text("utf-8") == "mine"


def test_without_a_folder_it_is_the_current_one(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = command_line.run("init")
    assert {path.name for path in tmp_path.iterdir()} == FILES
    assert said.out.endswith("Next: faregate dev app:app\n")


def test_the_readme_shows_the_app_of_a_new_project(
    command_line: CommandLine, tmp_path: Path
) -> None:
    """So that what a reader copies is what `faregate init` writes."""
    command_line.run("init", tmp_path)
    (shown,) = re.findall(r"^```python\n(.*?)^```", README.read_text("utf-8"), re.M | re.S)
    assert (tmp_path / "app.py").read_text("utf-8") == shown
