"""From configuration files to settings.

Three kinds of files: the application's (``app``), one a job (``job``), and one
for hosts (``hosts``).  They are those of the filetransfer package, which had the
first word on what options are called (``options``); what lanxfer adds has names
of its own.
"""
