"""Runs every check and tells what it found. Started by deploy/validate."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

import alerts
import compose
import container
import network
import rendering
import schemas
import settings
import workloads
from report import Report


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kustomize", help="the command that renders a kustomization")
    parser.add_argument("--promtool")
    parser.add_argument("--variables", type=Path)
    parser.add_argument("--complete", action="store_true")
    parser.add_argument("--work", type=Path, required=True)
    given = parser.parse_args()
    root = Path(__file__).resolve().parents[2]
    report = Report()

    names = settings.known(given.variables) if given.variables else None
    if names is None:
        report.unchecked.append("names of settings: no --variables")
    container.check(root, report)
    services = compose.check(root, given.work, report)
    ports = {name: {50051} if name.endswith("-service") else set() for name in services}
    settings.check(settings.of_compose(services), ports, names, report)
    alerts.check(root, given.work, given.promtool, report)

    if given.kustomize:
        rendered = rendering.render(shlex.split(given.kustomize), root, given.work / "components", report)
        if rendered:
            schemas.check(rendered, root, report)
        for one in rendered:
            workloads.check(one, report)
            network.check(one, report)
            settings.check(settings.of_kubernetes(one, report), settings.hosts_of(one), names, report)
    else:
        report.unchecked.append("Kubernetes: neither kubectl nor kustomize nor npm is at hand")

    report.print()
    return 1 if report.problems or (given.complete and report.unchecked) else 0


if __name__ == "__main__":
    sys.exit(main())
