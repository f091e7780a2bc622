"""What comes next in time series."""
