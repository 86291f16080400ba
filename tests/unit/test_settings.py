"""Settings from the environment: a variable that does nothing is an error that says so."""

import pytest

from faregate import Settings
from faregate.config import read_settings
from faregate.domain.errors import ConfigurationError


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("FAREGATE_DECISION_TIMEOUT", "FAREGATE_DECISION_TIMEOUT_MS"),
        ("FAREGATE_REDIS_URI", "FAREGATE_REDIS_URL"),
        ("faregate_provision_user", "FAREGATE_PROVISION_USERS"),
        ("FAREGATE_REDIS_PORT", "FAREGATE_REDIS_URL"),
    ],
)
@pytest.mark.parametrize("read", [read_settings, Settings])
def test_a_misspelt_variable_is_an_error_that_names_its_neighbours(
    read: type[Settings], name: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its value is not repeated, since it may be a password."""
    monkeypatch.setenv(name, "6379-secret")
    with pytest.raises(ConfigurationError, match=rf"{name.upper()} .*{meant}") as caught:
        read()
    assert "secret" not in str(caught.value)


def test_every_misspelt_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mending one after the other takes as many starts."""
    monkeypatch.setenv("FAREGATE_BATCH_SIZE", "1")
    monkeypatch.setenv("FAREGATE_ZZZ", "1")
    with pytest.raises(ConfigurationError, match=r"BATCH_SIZE_MAX.*FAREGATE_ZZZ .* unset it"):
        read_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FAREGATE_SERVICE_HOST", "10.0.0.1"),
        ("FAREGATE_SERVICE_PORT_HTTP", "8000"),
        ("FAREGATE_PORT", "tcp://10.0.0.1:8000"),
        ("FAREGATE_METRICS_PORT", "tcp://10.0.0.1:9101"),
        ("FAREGATE_API_PORT_8000_TCP", "tcp://10.0.0.1:8000"),
        ("FAREGATE_API_PORT_8000_TCP_ADDR", "10.0.0.1"),
        ("FAREGATE_TEST_SERVERS", "debian"),
        ("MYAPP_FAREGATE_OPTION", "1"),
    ],
)
def test_variables_of_others_pass(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kubernetes sets some for each service, and an app that fails for them never starts there."""
    monkeypatch.setenv(name, value)
    assert read_settings() == Settings()
