"""From the samples of two runs to a decision: pairing, statistics, policy, verdict, evidence bundle.

Pure: it reads tables and values and returns values. No network, no store, no clock but where one is passed.
"""
