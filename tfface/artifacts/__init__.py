"""Presets as files that run elsewhere: SavedModel for servers, TFLite for phones, preprocessing inside.

A JSON file beside an artifact describes it, and `golden.json` holds its answers to known inputs. A TFLite artifact is
read here without TensorFlow.
"""
