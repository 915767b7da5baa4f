"""The rules: samples, runtime metrics, statistics, pairing, comparison. Pure; no infrastructure."""
