"""Implementations of the ports: plain dicts, Redis, Postgres, files."""
