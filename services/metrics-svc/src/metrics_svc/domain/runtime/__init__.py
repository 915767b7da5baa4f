"""Runtime metrics of one run: what is collected, what is reported, and what the serving side cost."""
