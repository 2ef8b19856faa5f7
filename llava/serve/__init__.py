"""Ways to try ACCM: Python, terminal and web page."""
