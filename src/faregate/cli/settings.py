"""Settings for development commands: read, refused in production, passed to children."""

import os
import re

from faregate.config import Environment, Settings, read_settings
from faregate.domain.errors import ConfigurationError, InvalidArgumentError

_PASSWORD = re.compile(r"://[^/]*:[^/]*@|password=", re.IGNORECASE)
_VARIABLE = "env:"


def development_settings(**given: object) -> Settings:
    """Read settings from the environment, except those in `given`.

    Raises:
        ConfigurationError: A setting is ill-formed, or the environment is production.
    """
    settings = read_settings(**given)
    if settings.environment is Environment.PRODUCTION:
        raise ConfigurationError(
            "this is for development only, and FAREGATE_ENVIRONMENT says production"
        )
    return settings


def as_environment(settings: Settings) -> dict[str, str]:
    """Return the environment variables of these settings, for a child process."""
    return {f"FAREGATE_{name.upper()}": str(value) for name, value in settings.model_dump().items()}


def url_of_option(given: str | None, option: str) -> str | None:
    """Return the URL of an option, or that in the variable of `env:NAME`.

    Raises:
        InvalidArgumentError: The option holds a password, or there is no such variable.
    """
    if given is None:
        return None
    if given.startswith(_VARIABLE):
        name = given.removeprefix(_VARIABLE)
        if not os.environ.get(name):
            raise InvalidArgumentError(f"{option} names the variable {name}, which is not set")
        return os.environ[name]
    if _PASSWORD.search(given):
        raise InvalidArgumentError(
            f"{option} holds a password, and a command line is seen by every user of the machine:"
            f" put the URL into a variable, and give {option} {_VARIABLE}NAME"
        )
    return given
