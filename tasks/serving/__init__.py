"""A model server that answers as TensorFlow Serving does: see `python -m tasks.serve`."""
