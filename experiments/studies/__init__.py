"""The experiments: a folder each, which the command line finds; see ``experiments/study.py``."""
