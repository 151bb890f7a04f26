"""System calls are followed in one order, over all threads, and fail or kill where it is said."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from chaos.tracing import unsupported

ROOT = Path(__file__).resolve().parent.parent

SCRIPT = """
import errno, os, sys, threading
from chaos.forked import spawn
from chaos.tracing import KILL, Tracer

folder, fault = sys.argv[1], sys.argv[2]

def work():
    def make(name):
        os.mkdir(f"{folder}/{name}")
    try:
        make("first")
        other = threading.Thread(target=make, args=("second",))
        other.start()
        other.join()
        make("third")
    except OSError as error:
        os.mkdir(f"{folder}/{errno.errorcode[error.errno]}")
        return 7
    return 0

made = []
def before(call):
    if call.name == "mkdir":
        made.append(call.text(0))
        if len(made) == 3 and fault:
            return KILL if fault == "kill" else int(fault)
done = []
process = spawn(work, f"{folder}/said", held=True)
tracer = Tracer(process, before, lambda call, result: done.append((call.name, result)))
tracer.run(lambda: False, 20)
results = [result for name, result in done if name == "mkdir"]
print(process.wait(), [os.path.basename(each) for each in made], results, tracer.hung)
"""


@pytest.mark.parametrize(
    ("fault", "said", "there"),
    [
        ("", "0 ['first', 'second', 'third'] [0, 0, 0]", {"first", "second", "third"}),
        ("kill", "-9 ['first', 'second', 'third'] [0, 0]", {"first", "second"}),
        ("5", "7 ['first', 'second', 'third', 'EIO'] [0, 0, -5, 0]", {"first", "second", "EIO"}),
    ],
)
def test_third_call(tmp_path: Path, fault: str, said: str, there: set[str]) -> None:
    """The third folder, after one that another thread made, is not made."""
    if reason := unsupported():
        pytest.skip(reason)
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), fault]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == f"{said} False\n", done.stderr
    assert {each.name for each in tmp_path.iterdir() if each.is_dir()} == there
