"""A model as one file for another runtime than PyTorch."""
