"""lm-eval behind one package: tasks over pinned rows, lazy requests, filters, scoring, aggregation.

Importing this package, or any of `spec`, `errors`, `template`, `results`, `index` and `process`, loads
neither lm-eval nor datasets; those live in the child process that `process.HarnessProcess` runs.
"""
