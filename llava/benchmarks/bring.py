"""The old name of llava.benchmarks.fetch."""

import warnings

from llava.benchmarks.fetch import fetch_benchmark as bring

__all__ = ["bring"]
warnings.warn("llava.benchmarks.bring is llava.benchmarks.fetch now", FutureWarning, stacklevel=2)
