"""The old name of llava.benchmarks.verify."""

import warnings

from llava.benchmarks.verify import Finding
from llava.benchmarks.verify import verify_benchmark as look

__all__ = ["Finding", "look"]
warnings.warn("llava.benchmarks.look is llava.benchmarks.verify now", FutureWarning, stacklevel=2)
