"""Moves pending records from Redis to Postgres, on RQ. The only package that imports rq.

RQ only triggers the work, which is in the streams. A ticker, in a process of its own, enqueues a
job if records are pending. A job drains shards for a bounded time and has no state. So a job that
is lost, doubled or killed costs only time: the next tick continues.
"""
