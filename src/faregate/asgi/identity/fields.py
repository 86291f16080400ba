"""Reads the fields of a request that carry a credential."""

import re

from starlette.types import Scope

#: How long a credential may be, in bytes. A longer one is ignored, unread.
CREDENTIAL_BYTES_MAX = 8_192

#: What RFC 6750, section 2.1, allows a bearer token to consist of.
_TOKEN = re.compile(rb"[A-Za-z0-9\-._~+/]+=*")
_SCHEME = b"bearer "


def credential(scope: Scope, field_name: bytes) -> str | None:
    """Return the credential in a field, or None if there is none, or if it could be several.

    In `authorization` it follows the scheme Bearer; any other field is the credential itself.
    """
    values = [value for name, value in scope["headers"] if name == field_name]
    if len(values) != 1 or len(values[0]) > CREDENTIAL_BYTES_MAX:
        return None
    (value,) = values
    if field_name == b"authorization":
        if value[: len(_SCHEME)].lower() != _SCHEME:
            return None
        value = value[len(_SCHEME) :]
    value = value.strip(b" ")
    return value.decode() if _TOKEN.fullmatch(value) else None
