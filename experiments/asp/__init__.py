"""ASPlanner's experiments: horizons, windows, and the smoothness of gradients."""
