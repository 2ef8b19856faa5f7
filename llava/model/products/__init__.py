"""How linear layers read their weights on a CPU: ``optimize_for_inference``."""

from llava.model.products.layers import optimize_for_inference

__all__ = ["optimize_for_inference"]
