"""How ``sphinx-build -W docs build/site`` makes the site of these pages."""

from lanxfer.version import VERSION

project = "lanxfer"
author = "the lanxfer authors"
copyright = author
version = release = VERSION

extensions = [
    "sphinx.ext.autodoc",  # the library, from its docstrings
    "sphinx_click",  # the command line, from the commands themselves
]
exclude_patterns = ["examples"]
root_doc = "index"
default_role = "literal"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"

html_theme = "furo"
html_title = f"lanxfer {VERSION}"
html_show_copyright = False
html_copy_source = False
smartquotes = False  # "--json" has to stay what it is
