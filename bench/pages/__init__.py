"""What the benchmark of the console's pages is made of."""
