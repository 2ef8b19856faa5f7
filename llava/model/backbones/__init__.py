"""Model families: one file for each, with everything that the pipeline must know about it."""
