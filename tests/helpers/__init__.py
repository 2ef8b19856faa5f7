"""What several tests share: a web server, damaged inputs, a training stage of toy size."""
