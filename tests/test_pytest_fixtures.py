"""The fixtures that pytest finds where Faregate is installed, and what they cost everybody else."""

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from uuid import UUID

from faregate.testing import Clock, MemoryGate
from installed import run

#: A project that has its own policies and charges in its own way.
CONFTEST = """
import pytest
from faregate import CreditPolicy, RateLimit

@pytest.fixture
def faregate_policies():
    return CreditPolicy(name="mine", limits=(RateLimit(name="burst", count=1, period_ms=1_000),))
"""
TESTS = """
import asyncio
from faregate import Verdict

def test_one(faregate_gate, faregate_user, faregate_clock):
    first = asyncio.run(faregate_gate.charge(faregate_user))
    assert (first.policy.name, first.credits) == ("mine", 2)
    assert asyncio.run(faregate_gate.charge(faregate_user)).verdict is Verdict.RATE_LIMITED
    faregate_clock.advance(1_000)
    assert asyncio.run(faregate_gate.charge(faregate_user)).allowed

def test_two(faregate_gate):
    assert faregate_gate.records() == []
"""
#: A project that does not know of Faregate, and whose pytest takes every warning for an error.
INNOCENT = """
import sys

def test_nothing_is_imported_for_nothing():
    assert "pytest_faregate" in sys.modules
    assert [name for name in sys.modules if name.split(".")[0] in {"faregate", "redis"}] == []
"""


def pytest_in(folder: Path, *options: str) -> str:
    """Run pytest in a project of its own, where only this plugin is loaded; return what it said."""
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n", encoding="utf-8")
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    command = [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "pytest_faregate"]
    return run(*command, *options, cwd=folder, env=environment)


def test_fixtures_are_here_without_a_word(
    faregate_gate: MemoryGate, faregate_user: UUID, faregate_clock: Clock
) -> None:
    """pytest has loaded them by the entry point; user and time are those of the gate."""
    assert faregate_gate.credits_of(faregate_user) == 3
    assert faregate_gate.clock is faregate_clock
    (found,) = (point for point in entry_points(group="pytest11") if point.name == "faregate")
    assert found.value == "pytest_faregate"


def test_a_project_uses_them_with_policies_of_its_own(tmp_path: Path) -> None:
    """Each test has a gate of its own; `pytest --fixtures` tells what there is."""
    (tmp_path / "conftest.py").write_text(CONFTEST, encoding="utf-8")
    (tmp_path / "test_mine.py").write_text(TESTS, encoding="utf-8")
    assert "2 passed" in pytest_in(tmp_path)
    shown = pytest_in(tmp_path, "--fixtures")
    for name in ("faregate_gate", "faregate_user", "faregate_clock", "faregate_policies"):
        assert name in shown


def test_a_project_that_uses_none_pays_nothing(tmp_path: Path) -> None:
    """Not even the import of Faregate, nor a warning."""
    (tmp_path / "test_innocent.py").write_text(INNOCENT, encoding="utf-8")
    assert "1 passed" in pytest_in(tmp_path)


def test_the_kit_imports_no_pytest() -> None:
    """It may be used by other runners, and at a console."""
    code = "import sys, faregate.testing; sys.exit('pytest' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert (
        subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
    )
