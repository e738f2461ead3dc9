"""Runs: what is planned, coded, predicted, stored and scored."""
