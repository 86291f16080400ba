"""Moves pending records from Redis to Postgres, on RQ. The only package that imports rq.

RQ triggers the work; the stream is the work. A ticker, a process of its own, enqueues jobs where
records are pending; a job drains one shard for a bounded time and keeps nothing in its head. A job
that is lost, doubled or killed therefore costs nothing but time: the next tick goes on.
"""
