"""Classical image codecs with real bitstreams."""
