"""Does a horizon that sets itself do better than the best fixed one? The command ``horizon``."""
