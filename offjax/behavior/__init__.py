"""What collects data: scripted and trained behaviour."""
