"""The old name of llava.benchmarks.catalog."""

import warnings

from llava.benchmarks.catalog import KNOWN, Benchmark

__all__ = ["KNOWN", "Benchmark"]
warnings.warn("llava.benchmarks.known is llava.benchmarks.catalog now", FutureWarning, stacklevel=2)
