"""Pictures: from encoded files to pixels, at the size and scale that a model wants."""
