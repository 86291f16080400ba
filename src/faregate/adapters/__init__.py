"""What the ports are made of: plain dicts, Redis, Postgres."""
