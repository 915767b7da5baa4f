"""Serving adapter for vLLM."""
