"""What learned codecs write: frames, entropy-coded symbols, and what must be computed in integers."""
