"""What is told of users: their balance, their usage, their own rows; and periods that begin."""

from collections.abc import Sequence
from uuid import UUID

from faregate.domain.errors import ConfigurationError, InvalidArgumentError
from faregate.domain.history import PAGE_LENGTH, PAGE_LENGTH_MAX, HistoryPage, Place
from faregate.domain.policy import CreditPolicy
from faregate.domain.usage import Usage
from faregate.domain.user import User, check_user_id
from faregate.gate.entry import Entry


class Reading(Entry):
    """Charges nothing. Only `renew` writes: what the next charge would."""

    async def balance(self, user_id: UUID, *, tier: str | None = None) -> User | None:
        """Return the balance that a charge would find now, or None if nobody knows the user."""
        return await self._balance(user_id, await self.policy_of(user_id, tier))

    async def usage(self, user_id: UUID, *, tier: str | None = None) -> Usage | None:
        """Return what a user has used and has left, or None if nobody knows the user."""
        policy = await self.policy_of(user_id, tier)
        user = await self._balance(user_id, policy)
        return None if user is None else Usage.of(user, policy)

    async def _balance(self, user_id: UUID, policy: CreditPolicy) -> User | None:
        await self.start()
        user = await self._in_time(lambda: self._ledger.read(user_id, policy.granted))
        if user is None and await self.install(user_id):
            user = await self._in_time(lambda: self._ledger.read(user_id, policy.granted))
        return user

    async def history(
        self, user_id: UUID, *, count_max: int = PAGE_LENGTH, before: Place | None = None
    ) -> HistoryPage:
        """Return a page of a user's own rows, the newest first. It does not need Redis.

        What was charged just now is not a row yet: the worker makes it one, within a second or so.

        Args:
            user_id: Whose rows, and as whom they are read.
            count_max: How many at most, from 1 to 100.
            before: Where the page before this one ended: its `ends_at`.

        Raises:
            ArchiveUnavailableError: Postgres does not answer in time.
            InvalidArgumentError: An argument is ill-formed.
        """
        if self._history is None:
            raise ConfigurationError("this gate has no history to read")
        check_user_id(user_id)
        if not 1 <= count_max <= PAGE_LENGTH_MAX:
            raise InvalidArgumentError(f"a page has 1 to {PAGE_LENGTH_MAX} rows, not {count_max}")
        # One more, which tells whether there is a next page.
        found = await self._history.read(user_id, count_max + 1, before)
        rows = tuple(found[:count_max])
        return HistoryPage(rows=rows, ends_at=rows[-1].place if len(found) > count_max else None)

    async def renew(self, user_id: UUID, *, tier: str | None = None) -> int | None:
        """Begin a user's new period, if one is due, without a request; see `ops.renew`.

        Returns:
            How many credits that added; None if nobody knows the user.

        Raises:
            LedgerUnavailableError: Not done; the next request, or the next call, does it.
            AmountError: The balance would leave its range.
        """
        await self.start()
        allowance = (await self.policy_of(user_id, tier)).granted
        if allowance is None:
            return 0
        added = await self._ledger.renew(user_id, allowance)
        if added is None and await self.install(user_id):
            added = await self._ledger.renew(user_id, allowance)
        return added

    async def users_after(self, after: UUID | None, count_max: int) -> Sequence[UUID]:
        """Return the next users of Postgres, by id; `after` is None for the first."""
        return await self._accounts.users_after(after, count_max)
