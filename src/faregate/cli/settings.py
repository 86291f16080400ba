"""Settings for what is started for development: read, refused in production, handed on."""

from faregate.config import Environment, Settings, read_settings
from faregate.domain.errors import ConfigurationError


def development_settings(**given: object) -> Settings:
    """Read settings from the environment, those in `given` excepted.

    Raises:
        ConfigurationError: One is ill-formed, or they say production.
    """
    settings = read_settings(**given)
    if settings.environment is Environment.PRODUCTION:
        raise ConfigurationError("this is for development: it believes whatever a request claims")
    return settings


def as_environment(settings: Settings) -> dict[str, str]:
    """Return the variables by which another process reads the same settings."""
    return {f"FAREGATE_{name.upper()}": str(value) for name, value in settings.model_dump().items()}
