"""The experiments of the chapter on Language Control Diffusion."""
