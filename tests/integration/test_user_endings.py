"""`faregate users close` and `erase`: what is taken, what is refused, and what is left."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from commands import CommandLine
from faregate.bootstrap import open_api_key_admin
from faregate.domain.api_key import NewApiKey
from operated import WHO, Ledger, erasing

pytestmark = [pytest.mark.redis, pytest.mark.postgres]


def test_a_closed_user_has_no_keys_no_holds_and_no_credits(
    operated: Ledger, command_line: CommandLine
) -> None:
    """Its rows say who took them and why. A second run finds nothing to do."""
    key = NewApiKey.mint(operated.user, "of a test", now=datetime.now(UTC))
    with open_api_key_admin(operated.settings) as admin:
        admin.create(key)
    operated.hold(2)
    words = ("users", "close", operated.user, *WHO)
    told = command_line.tell(*words)
    counts = {"keys_revoked": 1, "holds_released": 1, "credits_taken": 3, "credits": 0}
    assert told == {"user_id": str(operated.user), **counts}
    operated.drain()
    *_, given_back, taken = operated.tables.rows(operated.user)
    assert (given_back["type"], given_back["description"]) == ("refund", "ticket 7")
    assert (taken["type"], taken["amount"]) == ("admin_adjustment", -3)
    assert taken["metadata"] == {"actor": "ann"}
    assert not operated.ask(lambda gate: gate.charge(operated.user)).allowed
    assert command_line.tell("keys", "list")[0]["revoked_at"]
    again = command_line.tell(*words)
    assert again == told | {"keys_revoked": 0, "holds_released": 0, "credits_taken": 0}
    assert command_line.tell("reconcile")["findings"] == []
    assert command_line.run("users", "close", uuid4(), *WHO).code == 2


@pytest.mark.parametrize("doing", ["hold", "request", "nothing"])
def test_a_user_is_not_erased_by_mistake(
    operated: Ledger, command_line: CommandLine, doing: str
) -> None:
    """Not while a hold is open or a request is in flight, and not without --yes."""
    if doing == "hold":
        operated.hold(1)
    elif doing == "request":
        operated.ask(lambda gate: gate.charge(operated.user, idempotency_key="order"))
    words = ["users", "erase", operated.user, *WHO]
    said = command_line.run(*words, *(() if doing == "nothing" else ("--yes",)))
    assert (said.code, said.out) == (2, "")
    expected = {"hold": "1 open holds", "request": "1 requests in flight", "nothing": "--yes"}
    assert expected[doing] in said.err
    assert operated.tables.profile(operated.user)


def test_an_erased_user_has_left_nothing(operated: Ledger, command_line: CommandLine) -> None:
    """Whatever was open, and however often it is asked for; the note names who has done it."""
    operated.ask(lambda gate: gate.charge(operated.user, idempotency_key="order"))
    operated.hold(1)
    operated.drain()
    words = ("users", "erase", operated.user, *WHO, "--yes", "--force")
    with erasing(operated):
        told = command_line.tell(*words)
    assert set(told["left"].values()) == {0}
    assert told["records_in_redis"] == 2
    assert command_line.tell(*words)["left"] == told["left"]
    (noted,) = operated.tables.run("select user_id, actor, actor_reason from faregate.deletions")
    assert noted == {"user_id": None, "actor": "ann", "actor_reason": "ticket 7"}
    assert command_line.tell("verify")["findings"] == []
    assert command_line.run("users", "erase", uuid4(), *WHO, "--yes").code == 2


def test_an_erasure_without_a_worker_says_so_and_goes_on_later(
    operated: Ledger, command_line: CommandLine
) -> None:
    """The user is deleted already, and is not asked for again."""
    operated.charge()
    words = ("users", "erase", operated.user, *WHO, "--yes")
    said = command_line.run(*words, "--wait-s", 0)
    assert (said.code, "faregate worker" in said.err) == (3, True)
    operated.drain()
    with erasing(operated):
        assert set(command_line.tell(*words)["left"].values()) == {0}
