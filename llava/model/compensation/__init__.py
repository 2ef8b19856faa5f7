"""Compensation for dropped tokens: captions, scene graphs, and methods without words."""
