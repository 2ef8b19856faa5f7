"""CLIP's two towers."""
