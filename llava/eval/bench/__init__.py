"""What pruning and compensation cost and save, measured: ``python -m llava.eval.bench``."""
