"""The papers' networks in Flax, each with the shapes it takes and the parameters it should have."""
