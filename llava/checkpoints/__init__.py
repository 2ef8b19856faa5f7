"""Getting the weights right: ``python -m llava.checkpoints download|verify|convert``."""
