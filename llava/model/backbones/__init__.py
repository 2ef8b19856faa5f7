"""Model families: what the pipeline has to know of each, a file a family."""
