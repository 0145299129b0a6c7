"""Reading, shuffling, batching and changing examples."""
