"""Distances of embeddings, error rates over pairs, and their intervals."""
