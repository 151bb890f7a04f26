"""A service of lanxfer that is measured; its client, ``bench.ours``, loads none."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from twisted.internet import reactor
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.python.failure import Failure

from bench.side import Control, run, say
from lanxfer.service import Settings, TransferService

_reactor: Any = reactor


def _serve(options: argparse.Namespace) -> None:
    service = TransferService(
        _reactor,
        Settings(
            inbox=options.what,
            state=options.state,
            port=0,
            bind="127.0.0.1",
            plain_from=("127.0.0.0/8",) if options.plain else (),
            reserve_bytes=0,
            reserve_share=0.0,
            control=False,
        ),
    )
    service.startService()
    _reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    listening = service.when_listening()
    listening.addCallbacks(lambda addresses: say(listening=addresses[0]), _cannot)
    Control(_reactor)
    _reactor.run()


def _cannot(why: Failure) -> None:
    print(why.getErrorMessage(), file=sys.stderr)
    _reactor.stop()


def main() -> None:
    """``bench.inbox INBOX``, until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what")
    parser.add_argument("--state", required=True)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--profile")
    options = parser.parse_args()
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
    run(lambda: _serve(options), options.profile)


if __name__ == "__main__":
    main()
