"""Sources, sinks and the turn that joins them."""
