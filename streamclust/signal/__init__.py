"""From bytes to windows to spectrograms; pure functions and state machines without clocks or files."""
