"""Detectors that icm-bench finds through their entry points."""
