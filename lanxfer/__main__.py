"""``python -m lanxfer``: the command where it is not on the path."""

from lanxfer.cli.start import start

if __name__ == "__main__":
    start()
