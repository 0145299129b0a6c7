"""``scale``: what prediction adds to a transformer of any size on many devices."""
