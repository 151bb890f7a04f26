"""The version of the installed package, said in one place: setup.cfg."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("lanxfer")
except PackageNotFoundError:  # run from sources that were never installed
    VERSION = "unknown"
