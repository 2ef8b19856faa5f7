"""The model: the five stages and their parts."""
