"""A learned filter behind a standard decoder."""
