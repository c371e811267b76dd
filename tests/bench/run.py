# SPDX-License-Identifier: Apache-2.0
"""`make bench`: what a look and a scrape cost, what a PMD feels of it, how soon a stall is told, what flows cost.

Prints tables.

It asserts no time.
"""

from __future__ import annotations

import argparse
import sys

import yaml

from ovs_keepalive.sandbox import SandboxError, missing
from tests.bench import cost, detection, effect, flows, scrape, upgrade
from tests.bench.meters import machine

SECTIONS = ("cost", "effect", "detection", "scrape", "upgrade", "flows")
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
    elif section == "scrape":
        scrape.show(options.pmds[-1:] if quick else options.pmds, warm_up)
    elif section == "upgrade":
        upgrade.show((100,) if quick else (100, 10), 3 if quick else 50)
    elif section == "flows":
        flows.show(flows.SIZES[:1] if quick else flows.SIZES)
    else:
        detection.show(_plan(options))


def _plan(options: argparse.Namespace) -> detection.Plan:
    quick, (key, values) = options.quick, options.vary
    return detection.Plan(
        options.intervals or ((500, 100) if quick else detection.INTERVALS),
        options.faults or (("traced", "spinning") if quick else tuple(detection.FAULTS)),
        options.repeats or (1 if quick else 5),
        3 if quick else 12,
        key,
        values,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    parser.add_argument("--pmds", type=_sizes, default=SIZES, help="numbers of PMD threads, by default 1,8,64,256")
    parser.add_argument("--seconds", type=float, help="length of a window of the cost section, by default 20")
    parser.add_argument("--quick", action="store_true", help="short windows and few runs: all of it within 2 minutes")
    parser.add_argument("--only", choices=SECTIONS, action="append", help="this section; may be given more than once")
    of_detection = parser.add_argument_group("the detection section")
    of_detection.add_argument("--intervals", type=_sizes, metavar="MS,...", help="by default 1000,500,200,100,50")
    of_detection.add_argument("--faults", type=_faults, metavar="FAULT,...", help=f"of {', '.join(detection.FAULTS)}")
    of_detection.add_argument("--repeats", type=int, metavar="N", help="runs of each fault at each interval; default 5")
    of_detection.add_argument(
        "--vary",
        type=_vary,
        default=("", (None,)),
        metavar="KEY=VALUE,...",
        help="measure all with each of these values of a key of the daemon's configuration file",
    )
    return parser.parse_args()


def _sizes(text: str) -> list[int]:
    sizes = [int(part) for part in text.split(",")]
    if min(sizes) < 1:
        raise ValueError(text)
    return sizes


def _faults(text: str) -> list[str]:
    faults = text.split(",")
    if not detection.FAULTS.keys() >= set(faults):
        raise ValueError(text)
    return faults


def _vary(text: str) -> tuple[str, list[object]]:
    # event-witness=on,off: each value as YAML reads it
    key, _, values = text.partition("=")
    return key, [yaml.safe_load(value) for value in values.split(",")]


if __name__ == "__main__":
    sys.exit(main())
