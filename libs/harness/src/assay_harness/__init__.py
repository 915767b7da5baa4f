"""lm-eval behind one module: tasks over pinned rows, lazy requests, scoring, aggregation."""
