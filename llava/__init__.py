"""LLaVA-1.5 with ACCM: pruned visual tokens, and the lost ones given back as a caption."""

__all__ = ["Accm"]


def __getattr__(name: str) -> object:
    """Accm, imported when it is asked for: with it come torch and transformers."""
    if name == "Accm":
        from llava.serve.accm import Accm

        return Accm
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
