"""What collects data: scripted and trained behavior."""
