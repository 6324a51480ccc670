"""Commands: absl flags in, run folders and tables out."""
