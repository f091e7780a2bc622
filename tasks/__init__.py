"""The tasks: one module each, runnable as `python -m tasks.NAME`."""
