"""What weight prediction costs: exact figures from compiled train steps, and timed ones.

Models have random weights and are fed random data: this measures cost and nothing else.
"""
