"""Plays the tables of scenarios on two backends: memory, which is the specification, and Redis."""
