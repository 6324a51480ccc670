"""ASPlanner's experiments: its two tables, windows, and the smoothness of gradients."""
