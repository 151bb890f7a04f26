"""Files and text messages between the devices of one network.

Import what you need from the floors: ``lanxfer.client`` and
``lanxfer.service`` for applications, ``lanxfer.wire`` and ``lanxfer.storage``
for those who build something else.  Nothing is imported here, so that the
lower floors stay free of Twisted.
"""
