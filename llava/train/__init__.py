"""Training: one file a stage, one loop (trainer.py) for all."""
