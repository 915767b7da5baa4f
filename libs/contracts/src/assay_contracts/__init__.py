"""Assay's events and their envelope: the contract other teams subscribe to."""
