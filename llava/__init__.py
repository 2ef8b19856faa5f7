"""LLaVA-1.5 with ACCM: pruned visual tokens, and the lost ones given back as a caption."""

from llava.moved import find_old_names

__all__ = ["Accm", "__version__"]

find_old_names()


def __getattr__(name: str) -> object:
    """Returns Accm or the version on first use: Accm imports torch and transformers."""
    if name == "Accm":
        from llava.serve.accm import Accm

        return Accm
    if name == "__version__":
        from llava.version import find_version

        return find_version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
