"""The serving-adapter interface: generated stubs, client, adapter base, launchers, conformance suite."""
