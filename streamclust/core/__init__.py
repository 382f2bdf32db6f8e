"""Values, settings and errors that every layer shares; pure, no input or output."""
