# SPDX-License-Identifier: Apache-2.0
"""`make bench`: what a look costs, what a PMD feels of it, how soon a stall is told. Prints tables, asserts no time."""

from __future__ import annotations

import argparse
import sys

from ovs_keepalive.sandbox import SandboxError, missing
from tests.bench import cost, detection, effect
from tests.bench.meters import machine

SECTIONS = ("cost", "effect", "detection")
SIZES = (1, 8, 64, 256)  # PMD threads


def main() -> int:
    """The exit status: 0, 3 when something could not be measured, 130 after Ctrl-C."""
    options = _options()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    if reason := missing():
        print(reason, file=sys.stderr)
        return 3
    try:
        print("# ovs-keepalive bench" + (" (quick: windows too short to quote)" if options.quick else ""))
        for section in options.only or SECTIONS:
            _show(section, options)
        print(f"\n{machine()}")
    except SandboxError as error:
        print(error, file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print("interrupted: all that was started has ended", file=sys.stderr)
        return 130
    return 0


def _show(section: str, options: argparse.Namespace) -> None:
    quick, warm_up = options.quick, 2.0 if options.quick else 10.0
    if section == "cost":
        cost.show(options.pmds, options.seconds or (3.0 if quick else 20.0), warm_up)
    elif section == "effect":
        effect.show(5 if quick else 20, 1.0 if quick else 3.0, warm_up)
    else:
        detection.show(*((1, 3) if quick else (5, 12)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    parser.add_argument("--pmds", type=_sizes, default=SIZES, help="numbers of PMD threads, by default 1,8,64,256")
    parser.add_argument("--seconds", type=float, help="length of a window of the cost section, by default 20")
    parser.add_argument("--quick", action="store_true", help="short windows and few runs: all of it within 2 minutes")
    parser.add_argument("--only", choices=SECTIONS, action="append", help="this section; may be given more than once")
    return parser.parse_args()


def _sizes(text: str) -> list[int]:
    sizes = [int(part) for part in text.split(",")]
    if min(sizes) < 1:
        raise ValueError(text)
    return sizes


if __name__ == "__main__":
    sys.exit(main())
