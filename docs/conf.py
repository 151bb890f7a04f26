"""How ``sphinx-build -W docs build/site`` makes the site of these pages."""

from docutils.parsers.rst import Directive

from lanxfer.config.table import TABLE
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


class Settings(Directive):
    """``.. settings::``: every key of the configuration file, from the table itself."""

    def run(self):
        lines = [".. list-table::", "   :header-rows: 1", "   :widths: 14 30 16 12 28", ""]
        head = ("key", "value", "as usual", "reload", "what")
        rows = [self.row(each) for each in TABLE if each.in_file]
        for row in [head, *rows]:
            for number, cell in enumerate(row):
                lines.append(f"   {'* -' if not number else '  -'} {cell}".rstrip())
        self.state_machine.insert_input(lines, "lanxfer/config/table.py")
        return []

    def row(self, each):
        value = f"list of ``{each.metavar}``" if each.many else each.kind.expected
        usual = each.usual or " ".join(f"``{text}``" for text in each.texts(each.default) if text)
        name = each.help.replace("*", "\\*")
        return f"``{each.key}``", value, usual, "yes" if each.live else "restart", name


def setup(app):
    app.add_directive("settings", Settings)
