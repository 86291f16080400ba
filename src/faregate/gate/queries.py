"""Queries: balance, usage and rows of a user; and `renew` for idle users."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar
from uuid import UUID

from faregate.domain.decision import Verdict
from faregate.domain.errors import ConfigurationError, InvalidArgumentError
from faregate.domain.history import PAGE_LENGTH, PAGE_LENGTH_MAX, HistoryPage, HistoryPlace
from faregate.domain.policy import CreditPolicy
from faregate.domain.usage import Usage
from faregate.domain.user import User, check_user_id
from faregate.gate.session import Session
from faregate.gate.tiers import Tiers
from faregate.ports import History

_T = TypeVar("_T")


class Queries:
    """Charges nothing.

    Only `renew` writes, and only the period that the next charge would begin.
    """

    def __init__(
        self,
        session: Session,
        tiers: Tiers,
        history: History | None,
    ) -> None:
        self._session = session
        self._tiers = tiers
        self._history = history

    async def balance(self, user_id: UUID, *, tier: str | None = None) -> User | None:
        """Return the balance that a charge would find now, or None if the user does not exist."""
        return await self._balance(user_id, await self._tiers.policy_of(user_id, tier))

    async def usage(
        self, user_id: UUID, *, tier: str | None = None, creates: bool = True
    ) -> Usage | None:
        """Return what a user has used and has left, or None if the user does not exist.

        Args:
            user_id: The user.
            tier: Its tier; None for that of the gate's `tier_of`.
            creates: Whether a missing user is created, if the options provision users, as a charge
                does. Read-only callers, such as `usage_app`, create none.
        """
        policy = await self._tiers.policy_of(user_id, tier)
        user = await self._balance(user_id, policy, creates=creates)
        return None if user is None else Usage.of(user, policy)

    async def _balance(
        self, user_id: UUID, policy: CreditPolicy, *, creates: bool = True
    ) -> User | None:
        ledger = self._session.ledger
        return await self._known(
            user_id, lambda: ledger.read(user_id, policy.granted), creates=creates
        )

    async def _known(
        self, user_id: UUID, operation: Callable[[], Awaitable[_T | None]], *, creates: bool = True
    ) -> _T | None:
        """Query a user; if the ledger does not know it, install it and query again."""
        answer = await self._session.ask(user_id, operation)
        if answer is None and await self._session.install(user_id, creates=creates):
            answer = await self._session.ask(user_id, operation)
        return answer

    async def history(
        self, user_id: UUID, *, count_max: int = PAGE_LENGTH, before: HistoryPlace | None = None
    ) -> HistoryPage:
        """Return a page of a user's own rows, the newest first. It does not need Redis.

        A charge becomes a row when the worker stores it, within a second or so.

        Args:
            user_id: The user; the rows are read with its rights.
            count_max: The most rows, from 1 to 100.
            before: The `ends_at` of the page before.

        Raises:
            ArchiveUnavailableError: Postgres does not answer in time.
            InvalidArgumentError: An argument is ill-formed.
        """
        if self._history is None:
            raise ConfigurationError("this gate has no history to read")
        check_user_id(user_id)
        if not 1 <= count_max <= PAGE_LENGTH_MAX:
            raise InvalidArgumentError(
                f"a page must have 1 to {PAGE_LENGTH_MAX} rows, not {count_max}"
            )
        self._session.bind()
        # One more row shows whether there is a next page.
        found = await self._history.read(user_id, count_max + 1, before)
        rows = tuple(found[:count_max])
        return HistoryPage(rows=rows, ends_at=rows[-1].place if len(found) > count_max else None)

    async def renew(self, user_id: UUID, *, tier: str | None = None) -> int | None:
        """Begin a user's new period, if one is due, without a request; see `ops.renew`.

        Returns:
            The credits that the period added; None if the user does not exist.

        Raises:
            LedgerUnavailableError: Not done; the next request or call does it.
            AmountError: The balance would leave its range.
        """
        allowance = (await self._tiers.policy_of(user_id, tier)).granted
        if allowance is None:
            return 0
        return await self._known(user_id, lambda: self._session.ledger.renew(user_id, allowance))

    async def users_after(self, after: UUID | None, count_max: int) -> Sequence[UUID]:
        """Return the next users of Postgres by id; `after` is None for the first ones."""
        self._session.bind()
        return await self._session.accounts.users_after(after, count_max)

    async def shadow_counts(self, policy: str) -> Mapping[Verdict, int]:
        """Return how often the shadow policy of this name would have given each verdict."""
        return await self._session.ask(None, lambda: self._session.ledger.shadow_counts(policy))
