"""The resources of the API. Every method raises ``AssayError``; see ``AssayClient``."""
