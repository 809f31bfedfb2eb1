"""Asking a TensorFlow Serving server that holds an exported SavedModel, over gRPC or REST.

Nothing here imports TensorFlow.
"""
