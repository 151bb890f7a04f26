"""What the owner wants to happen when something has arrived or is over (docs/hooks.rst)."""
