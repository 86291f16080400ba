"""The end of a page of a history, as an opaque text for the client.

It holds the time in microseconds and the id of the last row: 24 bytes, 32 characters. It is not
signed, since it grants no right: a user sees only its own rows.
"""

import re
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta

from faregate.domain.history import HistoryPlace
from faregate.domain.transaction import transaction_id_of

#: The pattern of cursors. Every matching text is valid.
PATTERN = "^[A-Za-z0-9_-]{32}$"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_TIME_US_MIN = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
_TIME_US_MAX = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
_PACKED = struct.Struct(">q16s")


def write_cursor(place: HistoryPlace) -> str:
    """Return the cursor of a place."""
    time_us = (place.timestamp - _EPOCH) // _MICROSECOND
    return urlsafe_b64encode(_PACKED.pack(time_us, place.id.bytes)).decode()


def read_cursor(text: str) -> HistoryPlace | None:
    """Return the place of a cursor, or None if the text is no cursor."""
    # With this length and alphabet, each value has exactly one text.
    if not re.fullmatch(PATTERN, text):
        return None
    time_us, id_bytes = _PACKED.unpack(urlsafe_b64decode(text))
    # A time out of range is before or after all rows, so it is replaced by the first or last time.
    time_us = min(max(time_us, _TIME_US_MIN), _TIME_US_MAX)
    timestamp = _EPOCH + time_us * _MICROSECOND
    return HistoryPlace(timestamp=timestamp, id=transaction_id_of(id_bytes))
