"""How good predictions are during real training: the command ``prediction-error``."""
