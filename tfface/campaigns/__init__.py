"""Campaigns: an attack on many pairs, from the choice of pairs and thresholds to counted successes."""
