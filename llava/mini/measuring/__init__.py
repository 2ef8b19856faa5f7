"""Measures a model's gain from its captions on the mini benchmarks, question by question."""
