"""Curves: operating points, what is derived from them, and the files that hold them."""
