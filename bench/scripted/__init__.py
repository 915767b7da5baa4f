"""What the benchmarks on scripted answers share."""
