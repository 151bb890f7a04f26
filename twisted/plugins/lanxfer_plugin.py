"""``twistd lanxfer``; what it does is in ``lanxfer.tap``."""

from twisted.application.service import ServiceMaker

lanxfer = ServiceMaker(
    "lanxfer",
    "lanxfer.tap",
    "Files and text messages between the devices of one network.",
    "lanxfer",
)
