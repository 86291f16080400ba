"""A bucket of `pyrate-limiter` for each user, as its documentation says to make them."""

from pyrate_limiter import BucketFactory, Duration, Limiter, Rate, RateItem, RedisBucket
from redis.asyncio import Redis


class UserBuckets(BucketFactory):  # type: ignore[misc]
    """Makes buckets at first sight. They do not leak, which would cost their side time."""

    def __init__(self, client: Redis, rates: list[Rate], script_hash: str) -> None:
        self._client = client
        self._rates = rates
        self._script_hash = script_hash
        self._buckets: dict[str, RedisBucket] = {}

    def wrap_item(self, name: str, weight: int = 1) -> RateItem:
        """Return a request, with its time."""
        return RateItem(name, self.get_by(name).now(), weight=weight)

    def get(self, item: RateItem) -> RedisBucket:
        """Return the bucket of a request."""
        return self.get_by(item.name)

    def get_by(self, name: str) -> RedisBucket:
        """Return the bucket of a user."""
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = RedisBucket(self._rates, self._client, f"pyrate:{name}", self._script_hash)
            self._buckets[name] = bucket
        return bucket


async def limiter_on(client: Redis, requests_max: int) -> Limiter:
    """Return a limiter that keeps what it counts in Redis."""
    rates = [Rate(requests_max, Duration.DAY)]
    first = await RedisBucket.init(rates, client, "pyrate:first")
    return Limiter(UserBuckets(client, rates, first.script_hash))
