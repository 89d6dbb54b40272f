"""Training and evaluation: recipes (data), data sets, the fit, the metrics and their curves."""
