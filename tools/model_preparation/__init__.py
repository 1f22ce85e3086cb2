"""Prepares models: sources, the throw-away export environment, the write side of the store."""
