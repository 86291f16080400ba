"""An operator whose database was never migrated is told what to do."""

import sys

import pytest

from faregate.cli.app import main

pytestmark = pytest.mark.postgres


@pytest.mark.parametrize("command", ["reconcile", "verify"])
def test_a_database_that_is_not_migrated_is_wrong_use(
    command: str,
    ledger_redis: str,
    empty_database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nothing is broken, so neither exit 3 nor the words of the driver."""
    monkeypatch.setenv("FAREGATE_REDIS_URL", ledger_redis)
    monkeypatch.setenv("FAREGATE_POSTGRES_URL", empty_database_url)
    monkeypatch.setattr(sys, "argv", ["faregate", command])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert "run `faregate migrate`" in said
    assert "relation" not in said
