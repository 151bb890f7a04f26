"""Settings of a service: the one table of them, and the file they may be written in."""
