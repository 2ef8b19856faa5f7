"""The check of a GPU: ``bash scripts/gpu_check.sh``."""
