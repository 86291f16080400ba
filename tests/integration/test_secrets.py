"""Passwords are seen nowhere: no repr, log, error, output of a command or command line."""

import asyncio
import logging
import sys
from pathlib import Path

import pytest

from faregate import Settings, build_gate
from faregate.adapters.redis.session import LedgerOptions
from faregate.cli import app
from faregate.cli.child import Program
from faregate.cli.replay import ReplayOptions
from faregate.cli.settings import as_environment
from faregate.cli.stack import StackOptions
from faregate.domain.errors import FaregateError
from least_rights import SECRET

#: Each is wrong in another way; nothing listens on the first port.
REDIS_URLS = [
    f"redis://user:{SECRET}@127.0.0.1:1/0",
    f"redis://user:{SECRET}/x@127.0.0.1:1/0",
    f"redis://user:x#{SECRET}@127.0.0.1:1/0",
    f"redis://127.0.0.1:1/0?password={SECRET}&nonsense={SECRET}",
    f"http://user:{SECRET}@127.0.0.1:1/0",
    f"unix://user:{SECRET}@/nowhere/socket",
    f"{SECRET}",
]
POSTGRES_URLS = [
    f"postgresql://user:{SECRET}@127.0.0.1:1/x",
    f"postgresql://user:x@{SECRET}@127.0.0.1:1/x",
    f"postgresql://user:{SECRET}/x@127.0.0.1:1/x",
    f"postgresql://user:%zz{SECRET}@127.0.0.1:1/x",
    f"host=127.0.0.1 port=1 password={SECRET}",
    f"host=127.0.0.1 port=1 password='{SECRET}",
    f"http://user:{SECRET}@127.0.0.1:1/x",
    f"{SECRET}",
]
URLS = [(url, POSTGRES_URLS[0]) for url in REDIS_URLS] + [
    (REDIS_URLS[0], url) for url in POSTGRES_URLS[1:]
]
COMMANDS = [
    ("migrate", "--status"),
    ("reconcile",),
    ("verify",),
    ("rebuild",),
    ("keys", "list"),
    ("journal", "import", "."),
]


async def start() -> None:
    gate = build_gate(Settings())
    try:
        await gate.start()
    finally:
        await gate.aclose()


@pytest.mark.parametrize(("redis_url", "postgres_url"), URLS, ids=range(len(URLS)))
def test_no_command_and_no_gate_shows_a_password(
    redis_url: str,
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever is wrong with a URL, and however much is logged."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("FAREGATE_REDIS_URL", redis_url)
    monkeypatch.setenv("FAREGATE_POSTGRES_URL", postgres_url)
    for words in COMMANDS:
        monkeypatch.setattr(sys, "argv", ["faregate", *words])
        with pytest.raises(SystemExit) as ended:
            app.main()
        assert ended.value.code in {2, 3}, words
        said = "".join(capfd.readouterr())
        assert said.startswith("faregate: "), words
        assert SECRET not in said, words
    monkeypatch.setattr(sys, "argv", ["faregate", "config"])
    with pytest.raises(SystemExit):
        app.main()
    assert SECRET not in "".join(capfd.readouterr())
    with pytest.raises((FaregateError, ValueError)) as caught:
        asyncio.run(start())
    assert SECRET not in f"{caught.value} {caught.value!r}"
    assert SECRET not in caplog.text


def test_no_repr_shows_a_password(tmp_path: Path) -> None:
    """What holds a URL or an environment leaves it out when it is shown."""
    settings = Settings(
        redis_url=REDIS_URLS[0], queue_url=REDIS_URLS[0], postgres_url=POSTGRES_URLS[0]
    )
    held = [
        settings,
        LedgerOptions(url=REDIS_URLS[0], shard_count=1, pending_max=1, decision_timeout_ms=1),
        Program(name="x", module="x", environment=as_environment(settings), log=tmp_path),
        StackOptions(
            starting_credits=1,
            provision_users=True,
            refund_status="5xx",
            redis_url=REDIS_URLS[0],
            postgres_url=POSTGRES_URLS[0],
        ),
        ReplayOptions(
            file=tmp_path,
            credits=1,
            concurrency=1,
            refund_status="5xx",
            kill_percent=0,
            seed=1,
            redis_url=REDIS_URLS[0],
            postgres_url=POSTGRES_URLS[0],
        ),
        build_gate(settings),
    ]
    for one in held:
        assert SECRET not in f"{one!r} {one!s}", type(one)


@pytest.mark.parametrize("url", [REDIS_URLS[0], REDIS_URLS[3], POSTGRES_URLS[4]], ids=range(3))
def test_a_password_as_an_option_is_refused(
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A command line is seen by every user of the machine; a variable is not."""
    file = tmp_path / "access.log"
    file.write_text("")
    monkeypatch.setattr(sys, "argv", ["faregate", "replay", str(file), "--redis-url", url])
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "env:NAME" in said
    assert SECRET not in said
    monkeypatch.setattr(sys, "argv", ["faregate", "replay", str(file), "--redis-url", "env:NONE"])
    with pytest.raises(SystemExit):
        app.main()
    assert "NONE, which is not set" in capsys.readouterr().err
