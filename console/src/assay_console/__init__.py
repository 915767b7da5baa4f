"""Assay in a browser: pages over the public API, and nothing else behind them."""
