"""A small Kubernetes: an API server, a scheduler and a kubelet whose containers are local processes."""
