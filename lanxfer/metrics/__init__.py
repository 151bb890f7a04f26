"""Figures about the service for whoever watches over many machines (docs/operations.rst)."""
