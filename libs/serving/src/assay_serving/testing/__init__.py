"""A serving adapter whose answers and timing are scripted, for tests and benchmarks of what lies before it.

The answers are a fixed function of the prompt and the times are fixed by the script; all between the caller
and the answer is real: gRPC, the adapter base, the upstream client and an HTTP endpoint in a process of its
own. It passes the same conformance suite as every adapter. `python -m assay_serving.testing adapter` and
`... endpoint` run the two by themselves.
"""
