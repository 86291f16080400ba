"""A formatter that writes log records as JSON, one line each.

Set it on any handler. If a value of a message is the id of a transaction, or has one, the line has
a field `transaction_id`, too.
"""

import json
import logging
from datetime import UTC, datetime

from faregate.domain.transaction import CreditTransactionId

__all__ = ["JsonFormatter"]

_OWN = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Writes time, level, logger, process, message and the `extra` fields of a record."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line of JSON."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
        }
        for value in record.args or ():
            found = getattr(value, "transaction_id", value)
            if isinstance(found, CreditTransactionId):
                line["transaction_id"] = str(found)
        line |= {name: value for name, value in vars(record).items() if name not in _OWN}
        if record.exc_info:
            line["exception"] = record.exc_text or self.formatException(record.exc_info)
        return json.dumps(line, default=str)
