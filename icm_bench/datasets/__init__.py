"""Datasets that come with the harness, each a provider behind an entry point."""
