"""From a trained model to a SavedModel that the stock server is certain to load."""
