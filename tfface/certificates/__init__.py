"""Certificates: within which distance no change of a photograph turns a verdict, with proof."""
