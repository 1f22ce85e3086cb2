"""Builds, measures and tests the container images. Imports nothing of the services but ports and settings."""
