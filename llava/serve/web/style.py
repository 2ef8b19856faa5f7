"""The look of the page: Gradio's theme, and a style sheet for its light and dark colours."""

from __future__ import annotations

import gradio as gr

# Fonts of the visitor's machine: nothing is loaded from elsewhere.
_FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "DejaVu Sans", "sans-serif"]
_MONOSPACE = ["ui-monospace", "Consolas", "DejaVu Sans Mono", "monospace"]


def theme() -> gr.themes.Base:
    """Returns Gradio's default theme in blue, with fonts of the visitor's machine."""
    return gr.themes.Default(primary_hue="blue", font=_FONTS, font_mono=_MONOSPACE)


STYLE = """
.gradio-container { width: 100%; max-width: 1320px !important; margin: 0 auto !important; }
.gradio-container .html-container { padding: 0 !important; }
.asked .image-frame img { width: 100%; height: 100%; object-fit: contain; }
[data-testid="status-tracker"]:has(> .error) { display: none; } /* a message says more */
.asked .image-frame img { transition: none; }
.field:not(:has(.seen)) .asked .image-frame img { visibility: hidden; } /* it may be none */
.field { gap: 6px !important; }
.notes:not(:has(.note)), .half:not(:has(.card)) { display: none !important; }
.note { margin: 0; font-size: 14px; line-height: 1.4; color: var(--body-text-color); }
.note::before { content: "Note: "; font-weight: 600; }
.note.problem { padding-left: 10px; border-left: 4px solid #d55e00; }
.note.problem::before { content: "Error: "; }
button.ask[aria-busy="true"] { font-size: 0; cursor: progress; }
button.ask[aria-busy="true"]::after { content: "Answering…"; font-size: 16px; }
button.ask[aria-busy="true"]::before {
  content: ""; width: 16px; height: 16px; margin-right: 10px; border-radius: 50%;
  border: 3px solid currentColor; border-right-color: transparent;
  animation: turn 0.9s linear infinite;
}
@keyframes turn { to { transform: rotate(360deg); } }
@media (prefers-reduced-motion: reduce) {
  button.ask[aria-busy="true"]::before { animation: none; }
}
.examples { gap: 6px !important; }
.examples h2 {
  font-size: 14px; font-weight: 400; margin: 0; color: var(--body-text-color); opacity: 0.75;
}
button.example {
  justify-content: flex-start; gap: 12px; padding: 6px; font-weight: 400;
  background: var(--block-background-fill); border: 1px solid var(--border-color-primary);
}
button.example:hover { background: var(--background-fill-secondary); }
button.example img { width: 44px; height: 44px; border-radius: 6px; margin: 0; }
.answers { scroll-margin-top: 12px; outline: none; }
.answers[data-old], .answers:has(.card.waiting) :is(.overlay, .candidates, .stages) {
  opacity: 0.35; /* of another question */
}
.intro h1 { font-size: 24px; font-weight: 700; margin: 0; }
.intro p { margin: 4px 0 0; color: var(--body-text-color); opacity: 0.75; max-width: 100ch; }
.warning {
  margin: 0; padding: 8px 12px; border-left: 4px solid #d55e00; color: var(--body-text-color);
}
.card {
  border: 1px solid var(--border-color-primary); border-radius: 10px; padding: 12px 16px;
  background: var(--block-background-fill); min-height: 92px; box-sizing: border-box;
}
.card header {
  display: flex; justify-content: space-between; gap: 12px; font-size: 14px;
  color: var(--body-text-color-subdued);
}
.card .time { white-space: nowrap; font-variant-numeric: tabular-nums; }
.card .answer {
  font-size: 20px; line-height: 1.4; margin: 8px 0 0; white-space: pre-wrap;
  overflow-wrap: anywhere; color: var(--body-text-color);
}
.card.idle .answer, .card.waiting .answer { color: var(--body-text-color-subdued); }
.empty {
  border: 1px dashed var(--border-color-primary); border-radius: 10px; padding: 24px 32px;
  min-height: 300px; display: grid; place-items: center; text-align: center; font-size: 14px;
  color: var(--body-text-color); opacity: 0.75;
}
.overlay, .candidates, .stages { margin: 0; color: var(--body-text-color); }
.overlay h3, .candidates h3, .stages h3 { font-size: 15px; font-weight: 600; margin: 0 0 8px; }
.overlay img { display: block; width: 100%; max-width: 560px; border-radius: 8px; }
.legend {
  display: flex; flex-wrap: wrap; gap: 4px 18px; list-style: none; margin: 10px 0 0; padding: 0;
  font-size: 14px;
}
.legend i {
  display: inline-block; width: 14px; height: 14px; margin-right: 7px; border: 3px solid;
  border-radius: 3px; box-sizing: border-box; vertical-align: -2px;
}
.candidates ol { list-style: none; margin: 0 0 20px; padding: 0; }
.candidates li {
  display: grid; grid-template-columns: 96px auto; gap: 2px 10px; align-items: center;
  padding: 8px 10px; border-radius: 8px; font-size: 14px;
}
.candidates li p { grid-column: 1 / -1; margin: 0; overflow-wrap: anywhere; }
.candidates li b { font-variant-numeric: tabular-nums; font-weight: 500; }
.candidates .meter { height: 8px; border-radius: 4px; background: var(--border-color-primary); }
.candidates .meter i {
  display: block; height: 100%; border-radius: 4px; background: var(--body-text-color-subdued);
}
.candidates .chosen { background: var(--background-fill-secondary); }
.candidates .chosen .meter i { background: #009e73; }
.candidates em { font-style: normal; font-weight: 600; color: #009e73; margin-left: 4px; }
.stages.elsewhere { margin-top: 24px; }
.stages p { font-size: 13px; line-height: 1.5; margin: 0 0 6px; opacity: 0.8; }
.stages .row { margin-bottom: 10px; display: grid; grid-template-columns: 1fr auto; gap: 3px 10px; }
.stages .row span, .stages .row b { font-size: 14px; font-weight: 400; }
.stages .row b { font-variant-numeric: tabular-nums; }
.stages .bar { grid-column: 1 / -1; grid-row: 2; display: flex; height: 18px; }
.stages .bar i { display: block; height: 100%; }
.stages .bar i:first-child { border-radius: 4px 0 0 4px; }
.stages .bar i:last-child { border-radius: 0 4px 4px 0; }
"""
