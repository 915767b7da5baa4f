"""Serving adapter for furiosa-llm."""
