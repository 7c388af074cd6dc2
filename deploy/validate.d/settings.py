"""Settings of the programs: whether they exist, and whether the addresses in them do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from rendering import Rendered
from report import Report

# Read by every program, and no settings.
OUTSIDE = {"COFFER_PROFILE", "COFFER_CONFIG"}
ADDRESS = re.compile(r"^https?://([a-z0-9-]+):(\d+)$")


@dataclass
class Program:
    """One program as somebody starts it."""

    place: str
    command: str
    environment: dict[str, str]


def known(path: Path) -> dict[str, set[str]]:
    """Names by program; those under '' hold for all."""
    names: dict[str, set[str]] = {}
    for line in path.read_text().splitlines():
        words = line.split("#")[0].split()
        if words:
            names.setdefault(words[0] if len(words) == 2 else "", set()).add(words[-1])
    return names


def of_kubernetes(one: Rendered, report: Report) -> list[Program]:
    maps = {object["metadata"]["name"]: object.get("data", {}) for object in one.of_kind("ConfigMap")}
    programs = []
    for object in one.of_kind("Deployment", "Job"):
        container = object["spec"]["template"]["spec"]["containers"][0]
        place = f"{one.name} {object['kind']}/{object['metadata']['name']}"
        environment: dict[str, str] = {}
        names: list[str] = []
        for source in container.get("envFrom", []):
            data = maps.get(source["configMapRef"]["name"], {})
            names += data
            environment |= data
        for variable in container.get("env", []):
            names.append(variable["name"])
            environment[variable["name"]] = variable.get("value", "")
        for name in {name for name in names if names.count(name) > 1}:
            report.problem(place, f"sets {name} twice")
        programs.append(Program(place, container["command"][0], environment))
    return programs


def of_compose(services: dict) -> list[Program]:
    return [
        Program(f"compose service {name}", service["command"][0], service.get("environment", {}))
        for name, service in services.items()
        if any(key.startswith("COFFER_") for key in service.get("environment", {}))
    ]


def check(programs: list[Program], hosts: dict[str, set[int]], names: dict[str, set[str]] | None, report: Report) -> None:
    for program in programs:
        for name, value in program.environment.items():
            if not name.startswith("COFFER_"):
                report.problem(program.place, f"sets {name}, which is no setting")
                continue
            bare = name.removesuffix("_FILE")
            if bare != name and bare in program.environment:
                report.problem(program.place, f"sets {bare} and {name}")
            if names is not None:
                mine = OUTSIDE | names.get("", set()) | names.get(program.command, set())
                report.require(
                    name in mine or bare in mine, program.place, f"{program.command} has no setting {name}"
                )
            if name.startswith("COFFER_SERVICES__"):
                for address in value.split(","):
                    match = ADDRESS.match(address)
                    report.require(
                        match and int(match[2]) in hosts.get(match[1], set()),
                        program.place,
                        f"{name}: nothing answers at {address}",
                    )


def hosts_of(one: Rendered) -> dict[str, set[int]]:
    return {s["metadata"]["name"]: {port["port"] for port in s["spec"]["ports"]} for s in one.of_kind("Service")}
