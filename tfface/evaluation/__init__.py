"""Embed photographs and data sets, verify, evaluate, mine."""
