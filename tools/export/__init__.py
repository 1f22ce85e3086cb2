"""Exporters: what runs inside the throw-away torch environment. Imports nothing of the services."""
