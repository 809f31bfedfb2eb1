"""Experiments of the paper: head retraining and the whole reproduction."""
