"""`faregate demo`: set up from nothing, it proves the ledger exact, or names who is wrong."""

import re
import sys
from dataclasses import replace

import pytest

from e2e.replays import faregate
from faregate.cli import main
from faregate.cli.profiles import PROFILES

UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"


def test_the_demo_proves_that_every_credit_is_accounted_for() -> None:
    """It exits 0, and its table shows a few thousand requests of every profile of users."""
    done = faregate("demo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "exact: every credit is accounted for" in done.stdout
    assert re.search(r"burst on 100 +1 +1,000 +100 +900 ", done.stdout)
    assert re.search(r"all +772 +3,970 +2,133 +1,837 +200 ", done.stdout)
    assert re.search(r"users with drift 0 ", done.stdout)


@pytest.mark.long
def test_the_demo_names_the_one_user_whose_balance_was_altered_by_hand(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With DEMO_BREAK=1 it exits 1, and names that user and nobody else; of a few users here."""
    few = tuple(replace(profile, users=10) for profile in PROFILES[:2])
    monkeypatch.setattr("faregate.cli.demo.PROFILES", few)
    monkeypatch.setenv("DEMO_BREAK", "1")
    monkeypatch.setattr(sys, "argv", ["faregate", "demo"])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert ended.value.code == 1, said
    altered = re.findall(rf"DEMO_BREAK: .* user ({UUID}) ", said.err)
    assert len(altered) == 1
    assert set(re.findall(UUID, said.out)) == set(altered)
    assert re.search(r"users with drift 1 ", said.out)
