"""Measurements of the project itself, one process each, as the peers' scripts are for theirs."""
