"""Where a page of a history ended, as text that a client hands back unread.

It is the time in microseconds and the id of the last row: 24 bytes, 32 characters. It is not
signed, since it gives no right: whatever it says, a user sees its own rows.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from uuid import UUID

from faregate.domain.history import Place
from faregate.domain.transaction import CreditTransactionId

#: What every cursor matches; not all that match are cursors.
PATTERN = "^[A-Za-z0-9_-]{32}$"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_TIME_BYTES = 8


def write_cursor(place: Place) -> str:
    """Return the cursor that stands for a place."""
    time_us = (place.timestamp - _EPOCH) // _MICROSECOND
    packed = time_us.to_bytes(_TIME_BYTES, signed=True) + place.id.value.bytes
    return urlsafe_b64encode(packed).decode()


def read_cursor(text: str) -> Place | None:
    """Return the place that a cursor stands for, or None if the text is none."""
    # Of this length and alphabet each text is the only one for its bytes.
    if not re.fullmatch(PATTERN, text):
        return None
    packed = urlsafe_b64decode(text)
    time_us = int.from_bytes(packed[:_TIME_BYTES], signed=True)
    try:
        timestamp = _EPOCH + time_us * _MICROSECOND
    except OverflowError:
        return None
    return Place(timestamp=timestamp, id=CreditTransactionId(UUID(bytes=packed[_TIME_BYTES:])))
