"""Training: one file per stage, one loop (trainer.py) for all."""
