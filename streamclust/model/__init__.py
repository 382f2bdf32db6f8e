"""Encoders, clusters and memberships: frozen models and the one inference path."""
