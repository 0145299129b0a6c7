"""How tight the bounds on prediction errors are on a network: the command ``error-bound``."""
