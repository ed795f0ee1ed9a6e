"""Did it change? Two versions measured in pairs (`check`), two finished runs, or a run and a stored baseline."""
