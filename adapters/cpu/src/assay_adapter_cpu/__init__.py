"""Serving adapter for llama.cpp on this machine's CPU."""
