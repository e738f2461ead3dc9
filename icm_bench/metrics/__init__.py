"""Metrics: what turns predictions and pixels into accuracy and fidelity."""
