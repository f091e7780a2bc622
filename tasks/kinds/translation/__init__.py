"""Texts in one language, answered in another."""
