"""Every port in plain dicts: the executable specification.

Redis and Postgres must answer as this does; one scenario table and random sequences compare them.
What it leaves out is what it cannot have: lost replies, deadlines that pass on the way, restarts.
"""
