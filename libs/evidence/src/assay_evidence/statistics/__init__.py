"""Statistics on paired scores, quantiles, samples needed, stopping rules: functions of arrays and numbers."""
