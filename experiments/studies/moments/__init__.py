"""What prediction does to an optimizer's moments during training: the command ``moments``."""
