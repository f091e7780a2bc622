"""One label an example: texts, pictures, sequences."""
