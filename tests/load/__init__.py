"""Load and stress tests of the web page and of training, which are started by hand."""
