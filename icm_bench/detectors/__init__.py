"""The frozen detectors."""
