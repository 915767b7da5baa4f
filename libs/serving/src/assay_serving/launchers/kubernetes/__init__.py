"""Model servers as Pods: what is created, how it is watched, and what its failures mean."""
