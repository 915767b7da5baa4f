"""Where engines run: a child process, a Pod, or an endpoint that somebody else runs."""
