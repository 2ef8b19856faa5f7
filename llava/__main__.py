"""The command ``accm`` without an installation: ``python -m llava``."""

from __future__ import annotations

import sys

from llava.command import main

if __name__ == "__main__":
    sys.exit(main())
