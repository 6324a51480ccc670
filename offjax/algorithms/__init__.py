"""One file per algorithm: Config, State, losses, update, acting."""
