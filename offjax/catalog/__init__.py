"""Dataset ids: files are read, and what is not there is collected."""
