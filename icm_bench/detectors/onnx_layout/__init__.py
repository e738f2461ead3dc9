"""Layouts of exported detectors: what they take, how their outputs become boxes, and how each is recognised.

A layout is bound to a graph by its inputs and outputs. Shapes alone do not prove it, so that it then examines what the
network returns for a known image: boxes in other units, boxes already decoded and scores that are no probabilities have
the same shapes.
"""
