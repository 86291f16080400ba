"""What travels in a record beside numbers: text, bounded, and valid where it will be stored."""

import json
from collections.abc import Mapping

from faregate.domain.errors import InvalidArgumentError
from faregate.domain.limit import RateLimit
from faregate.domain.policy import Allowance
from faregate.domain.transaction import DESCRIPTION_BYTES_MAX, METADATA_BYTES_MAX


def encode_description(text: object) -> bytes:
    """Encode a description.

    Raises:
        InvalidArgumentError: It is too long, or holds what Postgres cannot store as text.
    """
    return _encode(text, "a description", DESCRIPTION_BYTES_MAX)


def encode_metadata(metadata: Mapping[str, object] | None) -> bytes:
    """Encode metadata as JSON; none is empty.

    Raises:
        InvalidArgumentError: It is no JSON object, too long, or cannot be stored as jsonb.
    """
    if metadata is None:
        return b""
    try:
        text = json.dumps(dict(metadata), ensure_ascii=False, allow_nan=False, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(f"metadata is a JSON object: {error}") from error
    if "\\u0000" in text:
        raise InvalidArgumentError("metadata holds a NUL character, which jsonb cannot store")
    return _encode(text, "metadata", METADATA_BYTES_MAX)


def encode_allowance(allowance: Allowance | None) -> tuple[int, int, str]:
    """Encode an allowance as the three arguments that `lua/lib/allowance.lua` reads."""
    if allowance is None:
        return 0, 0, "day"
    period = allowance.period
    name = f"{period.kind}:{period.length_ms}" if period.length_ms else str(period.kind)
    return allowance.amount, allowance.rollover_max, name


def encode_limit(limit: RateLimit) -> tuple[str, int, int, int]:
    """Encode a rate limit as the four arguments that `lua/lib/limits.lua` reads."""
    return str(limit.kind), limit.count, limit.period_ms, limit.burst_size


def _encode(text: object, what: str, bytes_max: int) -> bytes:
    if not isinstance(text, str) or "\0" in text:
        raise InvalidArgumentError(f"{what} is text without NUL characters")
    try:
        encoded = text.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(f"{what} is valid Unicode: {error}") from error
    if len(encoded) > bytes_max:
        raise InvalidArgumentError(f"{what} has {len(encoded)} bytes, at most {bytes_max}")
    return encoded
