"""A compiled completion server that logs when it sent what, and the comparison of a client with that log."""
