"""Image coding for machines, measured."""
