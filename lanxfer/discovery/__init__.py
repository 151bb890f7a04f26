"""Finding the devices of a network, and being found, by mDNS (docs/discovery.rst)."""
