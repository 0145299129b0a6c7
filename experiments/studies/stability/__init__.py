"""Where momentum with weight prediction is stable: the quadratic model against training runs."""
