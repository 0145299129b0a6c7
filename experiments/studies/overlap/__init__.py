"""Whether a late all-reduce runs under computation, according to a device's compiler."""
