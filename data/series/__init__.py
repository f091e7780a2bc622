"""Time series and sequences of numbers: time stamps, regular grids, windows."""
