"""Logs: one line of JSON a record, no line a request, and nobody's name at level INFO."""

import json
import logging
from uuid import uuid4

import pytest

from faregate import CreditPolicy, Gate
from faregate.adapters.memory.ledger import MemoryLedger
from faregate.adapters.memory.store import MemoryStore
from faregate.domain.policy import GateOptions
from faregate.domain.transaction import CreditTransactionId
from faregate.gate.retries import Name
from faregate.logs import JsonFormatter
from faregate_worker.runtime import tidy_record


def written(record: logging.LogRecord) -> dict[str, object]:
    """What is written of a record."""
    (line,) = JsonFormatter().format(record).splitlines()
    found: dict[str, object] = json.loads(line)
    return found


def record_of(message: str, *values: object, **more: object) -> logging.LogRecord:
    made = logging.LogRecord("faregate.a", logging.INFO, __file__, 1, message, values, None)
    made.__dict__ |= more
    return made


def test_a_record_is_one_line_whatever_it_says() -> None:
    """With a time that says its zone."""
    line = written(record_of("one\n%s", 2, shard=3, made_of=uuid4))
    time = line.pop("time")
    assert isinstance(time, str)
    assert time.endswith("+00:00")
    assert isinstance(line.pop("process"), int)
    assert "uuid4" in str(line.pop("made_of"))
    assert line == {"level": "INFO", "logger": "faregate.a", "message": "one\n2", "shard": 3}


def test_the_id_of_a_transaction_is_a_field() -> None:
    """Be it a value of the message, or what the message is about."""
    identity, user_id = CreditTransactionId(uuid4()), uuid4()
    name = Name("void of", identity, user_id)
    assert written(record_of("hold %s: %s", identity, "x"))["transaction_id"] == str(identity)
    told = written(record_of("given up: %s (%s)", name, "x"))
    assert told["transaction_id"] == str(identity)
    assert told["message"] == f"given up: void of {identity} of user {user_id} (x)"
    assert "transaction_id" not in written(record_of("nothing %s", 1))


def test_an_error_keeps_its_frames_and_loses_its_secrets() -> None:
    """The worker's filter comes before the formatter."""
    with pytest.raises(ValueError, match="s3cret") as caught:
        int("postgresql://u:s3cret@host/db")
    record = record_of("job failed", exc_info=(caught.type, caught.value, caught.tb))
    assert tidy_record(record)
    exception = str(written(record)["exception"])
    assert exception.startswith("Traceback")
    assert exception.endswith("'postgresql://***@host/db'")


async def test_refusals_are_sampled_and_name_no_user(caplog: pytest.LogCaptureFixture) -> None:
    """A thousand of them are a few lines, by which policy and verdict are known."""
    caplog.set_level(logging.INFO, "faregate")
    options = GateOptions(provision_users=True)
    gate = Gate(MemoryLedger(), MemoryStore(), CreditPolicy(name="free"), options)
    user_id = uuid4()
    for _ in range(3):
        assert (await gate.charge(user_id)).allowed
    assert not caplog.records
    refused = [await gate.charge(user_id) for _ in range(1_000)]
    lines = [written(record) for record in caplog.records]
    assert 1 <= len(lines) < len(refused) / 10
    assert str(lines[0]["message"]).startswith("charge refused by policy free: out_of_credits, ")
    assert lines[0]["transaction_id"] == str(refused[0].transaction_id)
    assert str(user_id) not in caplog.text
    await gate.aclose()
