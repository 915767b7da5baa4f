"""What dataset-svc knows of: datasets, and their snapshots."""
