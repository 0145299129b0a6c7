"""Agents that learn by PPO, with and without prediction: the command ``agents``."""
