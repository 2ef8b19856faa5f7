"""ACCM as a model of lmms-eval: ``lmms-eval --model accm``."""
