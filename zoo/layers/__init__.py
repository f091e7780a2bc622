"""Blocks that several models of the zoo share."""
