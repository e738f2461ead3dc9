"""Formats of other tools, which results are read from and written to."""
