"""The paper from end to end: which commands follow from which, and what is done already."""
