"""Texts: how they are cut into tokens, and texts with their translations."""
