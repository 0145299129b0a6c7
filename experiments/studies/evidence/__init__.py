"""The papers' tasks, run by one protocol: ``python -m experiments run|sweep|report``."""
