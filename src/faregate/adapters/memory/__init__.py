"""Ledger, stream, rows and journal in plain dicts: the executable specification.

Redis and Postgres must answer as this does; tables of scenarios and random sequences compare them.
Lost replies, searches that are cut short, overwritten values and restarts exist only there.
"""
