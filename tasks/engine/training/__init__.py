"""How a model is trained, and goes on after a kill."""
