"""Measures of the tasks. Pure functions; none knows a graph."""
