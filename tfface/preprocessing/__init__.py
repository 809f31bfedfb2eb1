"""Photographs to crops: decoding, faces, resizing."""
