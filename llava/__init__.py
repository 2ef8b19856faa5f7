"""LLaVA-1.5 with ACCM: pruned visual tokens, and the lost ones given back as a caption."""
