"""Optimizers with and without prediction on one task."""
