"""Breaking lanxfer on purpose: ``python -m chaos NAME``; each name is one file here.

Every command prints the figures it found, each beside its bound, and exits
with ``BREACH`` where one does not hold.  What is random comes from ``--seed``,
which is printed, so that a breach can be seen again.
"""
