"""How anything is trained: one step, in one compiled program or in a loop that can be cut."""
