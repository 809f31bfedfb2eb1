"""A preset as a file that runs elsewhere: SavedModel for servers, TFLite for phones.

Preprocessing is inside. What an artifact is stands in a JSON file beside it, what it must answer
in `golden.json`; a TFLite artifact is read here without TensorFlow.
"""
