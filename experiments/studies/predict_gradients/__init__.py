"""``python -m experiments predict-gradients``: control variates against the best plain batch size.

Arms take turns by their own clocks, so that all see the same machine; everything is also counted
in floating-point operations, which no machine's mood changes.
"""
