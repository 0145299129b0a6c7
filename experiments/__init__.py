"""Experiments with xgrad_optax: does predicting the weights help, and by how much?

Run ``python -m experiments --help``. The library never imports this package.
"""
