"""Answers of calls, as an `AnswerLog` is told of them."""

from collections.abc import Sequence
from time import monotonic

from faregate.adapters.redis.answered import AnswerLog
from faregate.adapters.redis.layouts import (
    NO_TIME,
    REPLY,
    REPLY_SHARD,
    REPLY_SPEND,
    SPEND,
    TIME_MS_BYTES,
    TIME_US_BYTES,
    VERSION,
)

_ALLOWED, _OUT_OF_CREDITS = 1, 17


def identity(number: int) -> bytes:
    return number.to_bytes(16)


def note(
    log: AnswerLog,
    spends: Sequence[tuple[int, int]],
    ms_of: Sequence[int],
    *,
    dropped: Sequence[int] = (),
    refused: Sequence[int] = (),
    now_s: float | None = None,
) -> None:
    """Note the answer to a call.

    Args:
        log: Where.
        spends: The place of the shard of each spend, and its id.
        ms_of: The time of the entry in each shard, whose numbers are their places.
        dropped: The places of spends nobody waited for.
        refused: The places of spends that appended nothing.
        now_s: When; None for now.
    """
    heads = [SPEND.pack(0, place + 1, 1, 1, identity(number)) for place, number in spends]
    times = [
        REPLY_SHARD.pack(
            (ms * 1_000).to_bytes(TIME_US_BYTES), ms.to_bytes(TIME_MS_BYTES) if ms else NO_TIME, 7
        )
        for ms in ms_of
    ]
    answers = [
        REPLY_SPEND.pack(
            _OUT_OF_CREDITS if at in refused else _ALLOWED,
            *(0, 1, 1, 0, NO_TIME, 0, 0 if at in refused else at + 1, 0),
        )
        for at in range(len(spends))
    ]
    reply = REPLY.pack(VERSION, len(ms_of)) + b"".join(times) + b"".join(answers)
    log.note(range(len(ms_of)), heads, reply, dropped, monotonic() if now_s is None else now_s)
