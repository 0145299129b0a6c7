"""``bench --target``: train steps compiled for devices that are not there, and counted."""
