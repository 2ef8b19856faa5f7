"""Result files of ``llava.eval.score``, set side by side: ``python -m llava.eval.report``."""
