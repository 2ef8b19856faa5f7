"""The look of the page: Gradio's theme, and a style sheet for its light and dark colours."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

# Fonts of the visitor's machine: nothing is loaded from elsewhere.
_FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "DejaVu Sans", "sans-serif"]
_MONOSPACE = ["ui-monospace", "Consolas", "DejaVu Sans Mono", "monospace"]


def theme() -> gr.themes.Base:
    """Returns Gradio's default theme in blue, with fonts of the visitor's machine."""
    return gr.themes.Default(primary_hue="blue", font=_FONTS, font_mono=_MONOSPACE)


STYLE = (Path(__file__).with_name("templates") / "style.css").read_text("utf-8")
