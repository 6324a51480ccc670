"""Episodes, on device and on the host, and what needs no environment."""
