"""Compilers of devices that need not be there, and how to read what they make."""
