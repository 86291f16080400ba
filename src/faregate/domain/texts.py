"""Description and metadata of a record: bounded, and valid in Postgres."""

import json
from collections.abc import Iterable, Mapping
from itertools import chain, islice

from faregate.domain.errors import InvalidArgumentError
from faregate.domain.transaction import (
    DESCRIPTION_BYTES_MAX,
    METADATA_BYTES_MAX,
    METADATA_DEPTH_MAX,
)


def encode_description(text: object) -> bytes:
    """Encode a description.

    Raises:
        InvalidArgumentError: It is too long, or Postgres cannot store it as text.
    """
    return _encode(text, "a description", DESCRIPTION_BYTES_MAX)


def encode_metadata(
    metadata: Mapping[str, object] | None, *, bytes_max: int = METADATA_BYTES_MAX
) -> bytes:
    """Encode metadata as JSON; None gives an empty text.

    Raises:
        InvalidArgumentError: It is no JSON object, too long, too deep, or cannot be stored as
            jsonb.
    """
    if metadata is None:
        return b""
    try:
        values = dict(metadata)
        _check_values(values)
        text = json.dumps(values, ensure_ascii=False, allow_nan=False, sort_keys=True)
    except InvalidArgumentError:
        raise
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(f"metadata must be a JSON object: {error}") from error
    return _encode(text, "metadata", bytes_max)


def _check_values(metadata: dict[str, object]) -> None:
    """Check all values and keys, level by level, before the encoder recurses into them."""
    level: list[object] = [metadata]
    for _ in range(METADATA_DEPTH_MAX):
        # Each part takes at least a byte, so a cyclic value ends the loop, too.
        parts = list(islice(chain.from_iterable(map(_parts, level)), METADATA_BYTES_MAX + 1))
        if len(parts) > METADATA_BYTES_MAX:
            raise InvalidArgumentError(f"metadata has more than {METADATA_BYTES_MAX} bytes")
        if any(isinstance(part, str) and "\0" in part for part in parts):
            raise InvalidArgumentError("metadata holds a NUL character, which jsonb cannot store")
        level = [part for part in parts if isinstance(part, dict | list | tuple)]
        if not level:
            return
    raise InvalidArgumentError(f"metadata nests deeper than {METADATA_DEPTH_MAX} levels")


def _parts(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return chain(value.keys(), value.values())
    return value if isinstance(value, list | tuple) else ()


def _encode(text: object, what: str, bytes_max: int) -> bytes:
    if not isinstance(text, str) or "\0" in text:
        raise InvalidArgumentError(f"{what} must be text without NUL characters")
    try:
        encoded = text.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(f"{what} must be valid Unicode: {error}") from error
    if len(encoded) > bytes_max:
        raise InvalidArgumentError(
            f"{what} must have at most {bytes_max} bytes, not {len(encoded)}"
        )
    return encoded
