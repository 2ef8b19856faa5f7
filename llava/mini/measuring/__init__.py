"""What a model gains from its captions on the mini benchmarks, question by question."""
