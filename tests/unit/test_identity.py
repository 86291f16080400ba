"""Who is charged: what identity functions may answer, and how several work together."""

from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from starlette.applications import Starlette
from starlette.authentication import (
    AuthCredentials,
    AuthenticationBackend,
    BaseUser,
    SimpleUser,
    UnauthenticatedUser,
)
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import Scope

from asgi_client import USER, World, answers, call, http_scope
from faregate import CreditPolicy, PolicySet, user_id_of
from faregate.asgi import FaregateMiddleware
from faregate.asgi.identity import (
    Caller,
    Identify,
    caller_of,
    first_of,
    session_identity,
    user_identity,
)
from faregate.asgi.identity.caller import SUBJECT_LENGTH_MAX, user_id_from
from faregate.domain.errors import (
    ConfigurationError,
    IdentityAnswerError,
    IdentityUnavailableError,
)
from faregate.domain.limit import RateLimit
from faregate.gate import Gate

NAMESPACE = UUID("0c7d5a0e-7c3e-5c53-9d7e-3f6f0f8a8f11")
OTHER = UUID(int=2)


def nobody(_scope: Scope) -> None:
    """Knows no caller."""


async def unavailable(_scope: Scope) -> UUID | None:
    raise IdentityUnavailableError("no answer")


async def identified(identify: Identify, **more: Any) -> UUID | None:
    """The user that an identity function finds for a request with more in its scope."""
    caller = await caller_of(identify, {**http_scope(), **more})
    return None if caller is None else caller.user_id


@pytest.mark.parametrize(
    ("answer", "caller"),
    [
        (None, None),
        (USER, Caller(user_id=USER)),
        (Caller(user_id=USER, tier="paid"), Caller(user_id=USER, tier="paid", limit_key="")),
    ],
    ids=["nobody", "a user", "a caller"],
)
async def test_the_result_of_identify_is_a_caller_a_user_or_none(
    answer: Caller | UUID | None, caller: Caller | None
) -> None:
    """Whether it comes at once or later."""

    async def later(_scope: Scope) -> Caller | UUID | None:
        return answer

    assert await caller_of(lambda _: answer, http_scope()) == caller
    assert await caller_of(later, http_scope()) == caller


@pytest.mark.parametrize("answer", [str(USER), b"", 0, False, {}, USER.bytes], ids=repr)
async def test_any_other_answer_is_an_error_that_does_not_repeat_it(answer: Any) -> None:
    """Nobody knows who would be charged, not even for an answer that is false."""
    with pytest.raises(IdentityAnswerError, match=f"not {type(answer).__name__}$") as caught:
        await caller_of(lambda _: answer, http_scope())
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize(
    ("field", "value"),
    [("user_id", str(USER)), ("user_id", None), ("tier", 1), ("limit_key", None)],
)
def test_a_caller_is_well_formed(field: str, value: object) -> None:
    """A text that looks like a UUID would be a user that nobody finds."""
    fields: dict[str, Any] = {"user_id": USER, field: value}
    with pytest.raises(IdentityAnswerError, match=field.replace("_", " ")):
        Caller(**fields)


async def test_the_first_that_knows_the_caller_decides() -> None:
    """Each is asked in turn, be it async or not, and those after it are not."""
    asked: list[str] = []

    async def second(_scope: Scope) -> Caller:
        asked.append("second")
        return Caller(user_id=USER, tier="paid")

    def third(_scope: Scope) -> UUID:
        asked.append("third")
        return OTHER

    caller = await caller_of(first_of(nobody, second, third), http_scope())
    assert caller == Caller(user_id=USER, tier="paid")
    assert asked == ["second"]
    assert await caller_of(first_of(nobody, nobody), http_scope()) is None
    with pytest.raises(ConfigurationError):
        first_of()


async def test_a_caller_that_cannot_be_identified_now_is_not_mistaken_for_another() -> None:
    """The next one may know another user: the request waits, and is not charged to that one."""
    with pytest.raises(IdentityUnavailableError):
        await caller_of(first_of(nobody, unavailable, lambda _: OTHER), http_scope())


async def test_an_identity_that_cannot_be_checked_is_a_503() -> None:
    """It is neither served nor told that it has no identity; nobody is charged."""
    world = World()
    answer = await call(world.around(answers(200), identify=unavailable))
    assert (answer.error, answer.status) == (None, 503)
    assert answer.header(b"retry-after") == b"1"
    assert not world.ledger.pending


async def test_tier_and_limit_key_of_a_caller_reach_the_gate() -> None:
    """Its tier chooses the policy, and its key is counted apart from another of the same user."""
    world = World()
    limit = RateLimit(name="one each", count=1, period_ms=3_600_000, is_by_key=True)
    policies = PolicySet(
        tiers={
            "default": CreditPolicy(starting_credits=3),
            "keys": CreditPolicy(name="keys", starting_credits=3, request_cost=2, limits=(limit,)),
        }
    )
    world.gate = Gate(world.ledger, world.store, policies)
    statuses = []
    for limit_key in ("a", "a"):
        caller = Caller(user_id=USER, tier="keys", limit_key=limit_key)
        answer = await call(world.around(answers(200), identify=lambda _, c=caller: c))
        statuses.append(answer.status)
    assert statuses == [200, 429]
    other = Caller(user_id=USER, limit_key="b")
    assert (await call(world.around(answers(200), identify=lambda _: other))).status == 200
    assert await world.credits() == 0


@pytest.mark.parametrize(
    ("subject", "user_id"),
    [
        (USER, USER),
        (str(USER), USER),
        (str(UUID(int=0xABCDEF)).upper(), UUID(int=0xABCDEF)),
        ("user-1", user_id_of(NAMESPACE, "user-1")),
        (42, user_id_of(NAMESPACE, "42")),
        ("x" * SUBJECT_LENGTH_MAX, user_id_of(NAMESPACE, "x" * SUBJECT_LENGTH_MAX)),
        # A UUID in another notation is no UUID, but a name like any other.
        (f"{{{USER}}}", user_id_of(NAMESPACE, f"{{{USER}}}")),
        (USER.urn, user_id_of(NAMESPACE, USER.urn)),
        (USER.hex, user_id_of(NAMESPACE, USER.hex)),
        ("x" * (SUBJECT_LENGTH_MAX + 1), None),
        ("", None),
        (True, None),
        (None, None),
        (1.5, None),
        (["a"], None),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_subject_stands_for_one_user(subject: object, user_id: UUID | None) -> None:
    """Without a namespace only a UUID does."""
    assert user_id_from(subject, NAMESPACE) == user_id
    is_uuid = user_id is not None and (subject == user_id or str(subject).lower() == str(user_id))
    assert user_id_from(subject, None) == (user_id if is_uuid else None)


@pytest.mark.parametrize(
    "subject",
    ["a\0b", "a\r\nx-admin: 1", "\x1b[2J", "a\ud800", "a\u2028b", "a\u202eb", "{0xABC\n}"],
    ids=ascii,
)
def test_a_subject_with_control_characters_has_no_user(subject: str) -> None:
    """They would be another user for the database than for whoever reads a log."""
    assert user_id_from(subject, NAMESPACE) is None


async def test_the_user_of_a_session_is_the_user_that_the_app_wrote() -> None:
    """Under the name that was agreed; nobody before the login."""
    identify = session_identity("uid")
    assert await identified(identify, session={"uid": str(USER)}) == USER
    assert await identified(identify, session={}) is None
    assert await identified(identify, session={"uid": 7}) is None
    by_number = session_identity("uid", namespace=NAMESPACE)
    assert await identified(by_number, session={"uid": 7}) == user_id_of(NAMESPACE, "7")


async def test_the_authenticated_user_is_found_by_an_attribute_or_a_function() -> None:
    """AuthenticationMiddleware has put it there; one that is not authenticated is nobody."""
    user = SimpleNamespace(is_authenticated=True, identity=str(USER), number=7)
    assert await identified(user_identity(), user=user) == USER
    by_number = user_identity("number", namespace=NAMESPACE)
    assert await identified(by_number, user=user) == user_id_of(NAMESPACE, "7")
    by_name = user_identity(lambda found: found.display_name, namespace=NAMESPACE)
    assert await identified(by_name, user=SimpleUser("ann")) == user_id_of(NAMESPACE, "ann")
    assert await identified(by_name, user=UnauthenticatedUser(), auth=AuthCredentials()) is None


async def test_a_user_that_only_has_a_method_is_not_authenticated() -> None:
    """A bound method is true for everybody, the stranger included."""
    user = SimpleNamespace(is_authenticated=lambda: False, identity=str(USER))
    assert await identified(user_identity(), user=user) is None


@pytest.mark.parametrize("identify", [session_identity(), user_identity()], ids=["session", "user"])
async def test_middleware_that_is_missing_is_a_mistake_of_configuration(identify: Identify) -> None:
    """A 401 for everybody would be looked for in the clients."""
    with pytest.raises(ConfigurationError, match=r"put .*Middleware above the gate"):
        await caller_of(identify, http_scope())
    answer = await call(World().around(answers(200), identify=identify))
    assert (answer.error, answer.status) == (None, 503)


async def test_starlettes_own_middleware_identifies_the_user() -> None:
    """A session that was signed here, and an authentication by Starlette's backend."""
    world = World()

    class Backend(AuthenticationBackend):
        async def authenticate(
            self, conn: HTTPConnection
        ) -> tuple[AuthCredentials, BaseUser] | None:
            name = conn.headers.get("x-name")
            return None if name is None else (AuthCredentials(), SimpleUser(name))

    async def login(request: Request) -> Response:
        request.session["user_id"] = str(USER)
        return Response()

    by_name = user_identity(lambda user: UUID(user.display_name))
    charged = FaregateMiddleware(answers(200), world.gate, first_of(session_identity(), by_name))
    app = Starlette(
        routes=[Route("/login", login), Mount("/", charged)],
        middleware=[
            Middleware(SessionMiddleware, secret_key=uuid4().hex),
            Middleware(AuthenticationMiddleware, backend=Backend()),
        ],
    )
    cookie = (await call(app, {**http_scope(), "path": "/login"})).header(b"set-cookie")
    assert cookie is not None
    value = cookie.partition(b";")[0]
    for fields, status in (
        ([], 401),
        ([(b"cookie", value)], 200),
        ([(b"cookie", value[:-1] + b"!")], 401),
        ([(b"x-name", str(USER).encode())], 200),
        ([(b"x-name", str(OTHER).encode())], 403),
    ):
        assert (await call(app, http_scope(headers=fields))).status == status
