"""Does prediction stretch the useful batch? All sizes at the same number of epochs."""
