"""What is fast, and by how much: each module is a command."""
