"""Programs over seeds: devices, hosts, layouts, compilation, rounding."""
