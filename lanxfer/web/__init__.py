"""The page in the browser (docs/web.rst): a door like the others, for those without lanxfer.

``gate`` decides who may come in and what a request may be, ``http`` has that looked at
when the headers are there, ``uploads`` carries the bytes of a file to the one command that
takes files, ``pages`` answers, ``live`` tells of what changes.  It needs the extra ``web``.
"""
