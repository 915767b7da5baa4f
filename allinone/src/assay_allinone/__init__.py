"""The whole platform on one machine without a container."""
