"""Exit codes of every command: 2 for wrong use, 3 for servers that are away, 0 where none is asked.

Exit 1, that the ledger is not exact, needs servers: e2e/test_sabotage.py.
"""

import shlex

import pytest

from commands import COMMANDS, CommandLine

USER = "7b1a3a3e-2f61-4f5b-9b0e-6d1c0a1f2e3d"
WHO = "--actor ann --reason 'ticket 7'"
#: How each command is typed that asks a server.
ASKING = {
    "acknowledge": f"gap-1a2b3c4d {WHO}",
    "adjust": f"{USER} 5 {WHO}",
    "balance": USER,
    "dead-letters discard": f"1 {WHO} --yes",
    "dead-letters list": "",
    "dead-letters resolve": f"1 {WHO}",
    "dead-letters retry": f"1 {WHO}",
    "dead-letters show": "1",
    "export": "--format csv",
    "forks": "",
    "grant": f"{USER} 5 {WHO}",
    "history": USER,
    "holds list": "",
    "holds release": f"{USER} {USER} {WHO}",
    "keys create": f"--user {USER} --name laptop",
    "keys list": "",
    "keys revoke": USER,
    "migrate": "",
    "rebuild": "",
    "reconcile": "",
    "refund": f"{USER} {USER} {WHO}",
    "reopen": "",
    "repair": "",
    "usage": USER,
    "users close": f"{USER} {WHO}",
    "users erase": f"{USER} {WHO} --yes",
    "users export": USER,
    "users show": USER,
    "verify": "",
}
#: They say what is away, and go on with the others.
LOOKING = {"doctor": "", "status": ""}
#: They ask no server, or bring their own.
ALONE = {"access": "--json", "config": "--json"}
#: Each has tests of its own: they start servers, write files, or need a file or an application.
OTHERS = {
    "api",
    "demo",
    "dev",
    "init",
    "journal import",
    "journal show",
    "renew",
    "replay",
    "worker",
}


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no server be there."""
    monkeypatch.setenv("FAREGATE_REDIS_URL", "unix:///nowhere/redis")
    monkeypatch.setenv("FAREGATE_POSTGRES_URL", "host=/nowhere")


def test_no_command_is_left_out() -> None:
    assert {*ASKING, *LOOKING, *ALONE, *OTHERS} == set(COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_an_unknown_option_is_wrong_use(command_line: CommandLine, name: str) -> None:
    said = command_line.run(*name.split(), "--nothing")
    assert (said.code, said.out, "Traceback" in said.err) == (2, "", False)


@pytest.mark.usefixtures("away")
@pytest.mark.parametrize("name", ASKING)
def test_servers_that_are_away_are_broken_in_one_line(command_line: CommandLine, name: str) -> None:
    said = command_line.run(*name.split(), *shlex.split(ASKING[name]))
    assert (said.code, said.out) == (3, ""), said
    assert said.err.startswith("faregate: ")
    assert len(said.err.splitlines()) == 1


@pytest.mark.usefixtures("away")
@pytest.mark.parametrize("name", LOOKING)
def test_a_check_of_all_parts_names_both_servers_that_do_not_answer(
    command_line: CommandLine, name: str
) -> None:
    told = command_line.tell(name, code=3)
    away = {"redis", "postgres"}
    if name == "doctor":
        assert away <= {one["part"] for one in told}
    else:
        assert {told[part] for part in away} == {None}


@pytest.mark.usefixtures("away")
@pytest.mark.parametrize("name", ALONE)
def test_commands_without_servers_work_without_any(command_line: CommandLine, name: str) -> None:
    assert command_line.run(name, *ALONE[name].split()).code == 0
