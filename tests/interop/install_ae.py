"""Make the environment in which real ae_transfer_service peers run for the tests.

    python3.11 tests/interop/install_ae.py

It goes where the tests look for it: ``.cache/ae`` in the checkout.  With another
place, tell the tests its interpreter in ``LANXFER_AE_PYTHON``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
DEFAULT = HERE.parent.parent / ".cache" / "ae"


def main() -> int:
    """Install, then start the peer's module once to see that it can be imported."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("folder", nargs="?", type=Path, default=DEFAULT)
    folder: Path = options.parse_args().folder
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    wanted = str(HERE / "requirements-ae.txt")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "-r", wanted]
    subprocess.run(pip, check=True)
    return subprocess.run([python, HERE / "ae_runner.py", "check"], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
