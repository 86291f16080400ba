"""Ledger, stream, rows and journal in plain dicts: the executable specification.

Redis and Postgres must answer as it does; scenario tables and random sequences compare them. Lost
replies, truncated searches, overwritten values and restarts exist only on real servers.
"""
