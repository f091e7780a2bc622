"""What tasks of one kind share, in the same files for each kind."""
