"""Attacks, benchmarks and certificates on data sets of faces."""
