"""How fast lanxfer is on this machine, beside what Twisted alone and ``cp`` do here.

``python -m bench`` from a checkout.  Ratios are what lasts: absolute figures
move with whatever else the machine does, so the things compared take turns on
the same files, each run in processes of its own, and medians are shown.
"""
