"""Wrong words and wrong settings: exit 2, no traceback, nothing on stdout, and what to correct.

No server is there, so that nothing can have been done.
"""

import shlex

import pytest

from commands import CommandLine

USER = "7b1a3a3e-2f61-4f5b-9b0e-6d1c0a1f2e3d"
WHO = "--actor ann --reason 'ticket 7'"
REDIS, POSTGRES = "FAREGATE_REDIS_URL", "FAREGATE_POSTGRES_URL"

#: What is typed, and what the error says.
WORDS = {
    "nothing": "No such command",
    "--nothing": "No such option",
    "balance": "Missing argument",
    "balance no-id": "a valid UUID",
    f"balance {USER} {USER}": "unexpected extra argument",
    f"history {USER} --count 0": "or equal to",
    f"history {USER} --count -1": "or equal to",
    f"history {USER} --before xyz": "next_cursor",
    f"usage {USER} --gate nothing": "package.module:attribute",
    f"usage {USER} --gate no_such_module:gate": "No module named",
    f"usage {USER} --gate os:no_such_gate": "no_such_gate",
    f"usage {USER} --gate os:path": "neither a gate nor a function",
    f"usage {USER} --gate json:dumps": "TypeError",
    "renew faregate:Gate": "TypeError",
    f"grant {USER} 5": "--actor",
    f"grant {USER} 5 --actor ann": "--reason",
    f"grant {USER} 0 {WHO}": "or equal to",
    f"grant {USER} x {WHO}": "a valid integer",
    f"adjust {USER} 5": "--actor",
    f"refund {USER} {USER} {WHO} --amount 5": "--idempotency-key",
    f"refund {USER} {USER} {WHO} --amount 0 --idempotency-key a": "or equal to",
    f"holds release {USER} x {WHO}": "a valid UUID",
    "holds list --count -1": "or equal to",
    f"keys create --user {USER} --name ''": "1 to 100 printable",
    f"keys create --user {USER} --name a --expires-in-days 0": "or equal to",
    "keys revoke zzz": "a valid UUID",
    f"users erase {USER} --yes": "--actor",
    f"users erase {USER} {WHO} --wait-s -1": "or equal to",
    f"users close {USER} --actor ' ' --reason b": "--actor is blank",
    "export": "--format",
    "export --format xml": "csv",
    "export --format csv --since yesterday": "does not match the formats",
    "dead-letters show x": "a valid integer",
    "dead-letters show 99999999999999999999": "or equal to",
    f"dead-letters retry {WHO}": "--kind KIND --all",
    f"dead-letters retry --kind nothing --all {WHO}": "deleted_user",
    f"dead-letters discard 1 2 --kind refused --all {WHO}": "--kind KIND --all",
    "repair nothing": "not the id of a finding",
    "repair --favour nobody": "ledger",
    "repair --apply": "--actor is blank",
    f"acknowledge gap-1 {WHO}": "not the id of a finding",
    "acknowledge gap-1a2b3c4d --actor ann": "--reason",
    "rebuild --from http://x": "--from: a Redis URL starts with redis://",
    "rebuild --from redis://ann:secret@host/0": "holds a password",
    "rebuild --from env:NO_SUCH_VARIABLE": "NO_SUCH_VARIABLE, which is not set",
    "rebuild --shard-count 0": "or equal to",
    "journal show": "FAREGATE_JOURNAL_DIR",
    "journal import /nowhere": "no journal at /nowhere",
    "journal import /dev/null": "no journal",
    "worker --metrics-port 0": "or equal to",
    "worker --log-format yaml": "text",
    "access --part nothing": "redis",
    "replay /nowhere": "does not exist",
    "replay /dev": "not a file",
    "replay /dev/null --concurrency 0": "or equal to",
    "replay /dev/null --refund-status 6xx": "5xx",
    "api --port 99999999": "or equal to",
}
#: A variable and its value, and what the error says.
SETTINGS = {
    (REDIS, ""): "a Redis URL starts with redis://",
    (REDIS, "http://host"): "starts with redis://",
    (REDIS, "redis://host:99999/0"): "a port from 0 to 65535",
    (REDIS, "redis://host:6379/name"): "redis://host:port/number",
    (REDIS, "redis://host:6379/0?nothing=1"): "an option after its ?",
    (REDIS, "redis://host:6379/0?protocol=3"): "remove protocol=",
    ("FAREGATE_QUEUE_URL", "http://host"): "starts with redis://",
    (POSTGRES, "nonsense"): "FAREGATE_POSTGRES_URL",
    (POSTGRES, "mysql://host/app"): "postgresql://user@host/database",
    (POSTGRES, "postgresql://host/app?nothing=1"): "is not a connection string",
    ("FAREGATE_SHARD_COUNT", "x"): "valid integer",
    ("FAREGATE_SHARD_COUNT", "0"): "greater than or equal to 1",
    ("FAREGATE_STARTING_CREDITS", "-1"): "greater than or equal to 0",
    ("FAREGATE_ENVIRONMENT", "prod"): "'production'",
    ("FAREGATE_DECISION_TIMEOUT_MS", "0"): "greater than or equal to 5",
    ("FAREGATE_SHARDCOUNT", "16"): "FAREGATE_SHARD_COUNT",
}


@pytest.mark.parametrize("words", WORDS)
def test_wrong_arguments_are_usage_errors_that_name_the_correction(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    """Before any server is asked: none is there."""
    monkeypatch.setenv(REDIS, "unix:///nowhere/redis")
    monkeypatch.setenv(POSTGRES, "host=/nowhere")
    monkeypatch.setenv("COLUMNS", "200")
    said = command_line.run(*shlex.split(words))
    assert (said.code, said.out, "Traceback" in said.err) == (2, "", False), said
    assert WORDS[words] in said.err


@pytest.mark.parametrize(("name", "value"), SETTINGS, ids=lambda part: part or "empty")
def test_a_wrong_setting_is_wrong_use_and_named(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """In one line, which says nothing about other settings."""
    monkeypatch.setenv(POSTGRES, "host=/nowhere")
    # Its default depends on another setting.
    monkeypatch.delenv("FAREGATE_DECISION_TIMEOUT_MS", raising=False)
    monkeypatch.setenv(name, value)
    said = command_line.run("reconcile")
    assert (said.code, said.out, len(said.err.splitlines())) == (2, "", 1), said
    assert name in said.err
    assert SETTINGS[name, value] in said.err
    assert "default factory" not in said.err
