"""What generates answers for the server: this process (``local``), or another engine (``vllm``)."""
