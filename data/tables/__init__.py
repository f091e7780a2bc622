"""Files of rows, whatever their format, and how rows become records."""
