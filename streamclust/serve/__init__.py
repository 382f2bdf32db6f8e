"""What the daemon shows: HTTP, metrics, logs, the terminal."""
