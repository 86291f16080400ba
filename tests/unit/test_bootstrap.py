"""What settings make of a gate, before anything is connected."""

from pathlib import Path

import pytest

from faregate import Settings, build_gate
from faregate.domain.errors import ConfigurationError
from faregate.domain.policy import BreakerOptions, GateOptions


def test_a_gate_is_built_by_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its timeouts, its breaker, and whether and how fast it may serve open."""
    monkeypatch.delenv("FAREGATE_DECISION_TIMEOUT_MS")
    settings = Settings(
        decision_timeout_ms=70,
        end_timeout_ms=700,
        open_rate_max=7,
        breaker_failures_max=4,
        breaker_span_ms=5_000,
        breaker_delay_ms_min=20,
        breaker_delay_ms_max=300,
        journal_dir=str(tmp_path / "journal"),
        journal_bytes_max=5_000,
    )
    gate = build_gate(settings)
    options = BreakerOptions(failures_max=4, span_ms=5_000, delay_ms_min=20, delay_ms_max=300)
    assert gate._session.options == GateOptions(
        decision_timeout_ms=70, end_timeout_ms=700, open_rate_max=7, breaker=options
    )
    assert gate.serves_open
    journal = gate.health().journal
    assert journal is not None
    assert journal.bytes_max == 5_000
    assert not build_gate(Settings()).serves_open
    assert build_gate(Settings())._session.options == GateOptions(decision_timeout_ms=1_000)


@pytest.mark.parametrize(
    ("environment", "given", "expected"),
    [
        ("development", {}, 1_000),
        ("production", {}, 50),
        ("development", {"FAREGATE_DECISION_TIMEOUT_MS": "70"}, 70),
        ("production", {"FAREGATE_DECISION_TIMEOUT_MS": "70"}, 70),
    ],
)
def test_a_laptop_has_more_time_than_production(
    environment: str, given: dict[str, str], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless the time is said, which holds everywhere."""
    monkeypatch.delenv("FAREGATE_DECISION_TIMEOUT_MS", raising=False)
    for name, value in {"FAREGATE_ENVIRONMENT": environment, **given}.items():
        monkeypatch.setenv(name, value)
    assert build_gate(Settings())._session.options.decision_timeout_ms == expected


def test_settings_that_cannot_work_are_refused_at_once(tmp_path: Path) -> None:
    """Not at the first outage."""
    file = tmp_path / "file"
    file.touch()
    for settings in (
        Settings(journal_dir=str(file)),
        Settings(breaker_delay_ms_min=2_000, breaker_delay_ms_max=1_000),
    ):
        with pytest.raises(ConfigurationError):
            build_gate(settings)
