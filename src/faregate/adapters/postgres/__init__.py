"""Postgres: the immutable rows, who exists, and the questions of operators."""
