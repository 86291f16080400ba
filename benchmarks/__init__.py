"""Benchmarks: Faregate beside a bare script call and beside its peers, by `make bench`."""
