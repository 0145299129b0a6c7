"""The command ``delay``: training with gradients that arrive late, with and without prediction."""
