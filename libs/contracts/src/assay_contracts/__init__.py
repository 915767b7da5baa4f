"""Assay's events: what each service says has happened, for the services themselves and for other teams.

Import the event classes from the module of their owner (``assay_contracts.eval_events`` and so on), the
CloudEvents envelope from ``assay_contracts.envelope`` and the registry from ``assay_contracts.registry``.
"""
