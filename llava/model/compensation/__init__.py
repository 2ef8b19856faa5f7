"""Compensation for the dropped tokens: captions, scene graphs, and what needs no words."""
