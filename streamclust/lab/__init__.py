"""The lab: fit, assign and evaluate on files and arrays; the same code as the daemon, without its state."""
