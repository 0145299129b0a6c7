"""Which BatchNorm statistics to evaluate with: the command ``batch-norm``."""
