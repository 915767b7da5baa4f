"""Infrastructure of a service: bus, store, outbox, web application, telemetry, settings."""
