"""compose.yaml: its schema, what it refers to, and how its containers are fenced in."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import yaml

from report import Report

VARIABLE = re.compile(r"(?<!\$)\$\{([A-Z_]+)")


def check(root: Path, work: Path, report: Report) -> dict:
    folder = root / "deploy/compose"
    path = folder / "compose.yaml"
    place = "deploy/compose/compose.yaml"
    schema = ["check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    done = subprocess.run(schema, capture_output=True, text=True)
    report.require(done.returncode == 0, place, done.stdout.strip())
    text = path.read_text()
    compose = yaml.safe_load(text)
    services = compose["services"]
    report.checked.append(f"{len(services)} compose services by check-jsonschema vendor.compose-spec")

    for name, service in services.items():
        where = f"{place} {name}"
        report.require(service.get("cap_drop") == ["ALL"], where, "does not drop ALL capabilities")
        report.require("no-new-privileges:true" in service.get("security_opt", []), where, "may gain privileges")
        limits = service.get("deploy", {}).get("resources", {}).get("limits", {})
        report.require({"cpus", "memory"} <= set(limits), where, "has no limits of CPU and memory")
        report.require("restart" in service, where, "has no restart policy")
        report.require("container_name" not in service, where, "has a fixed name and cannot be scaled")
        if "COFFER_" in service["image"]:
            report.require(service.get("read_only") is True, where, "may write to its root")
        if "COFFER_METRICS__LISTEN" in service.get("environment", {}):
            test = service.get("healthcheck", {}).get("test")
            report.require(test == ["CMD", service["command"][0], "health"], where, "has no health check")
        report.require(name == "gateway" or "ports" not in service, where, "publishes a port")
        for other in service.get("depends_on", {}):
            report.require(other in services, where, f"depends on {other}, which is not there")
        check_references(where, service, compose, report)

    example = dict(
        line.removeprefix("# ").split("=", 1)
        for line in (folder / ".env.example").read_text().splitlines()
        if re.match(r"(# )?[A-Z_]+=", line)
    )
    used = set(VARIABLE.findall(text))
    report.require(used <= set(example), place, f".env.example says nothing of {sorted(used - set(example))}")
    unused = set(example) - used - {"COMPOSE_PROFILES"}
    report.require(not unused, place, f".env.example has {sorted(unused)}, which nothing uses")
    check_init(folder, work / "compose", compose, report)
    return services


def check_references(where: str, service: dict, compose: dict, report: Report) -> None:
    for network in service.get("networks", []):
        report.require(network in compose["networks"], where, f"uses the network {network}, which is not there")
    secrets = {one if isinstance(one, str) else one["source"] for one in service.get("secrets", [])}
    report.require(secrets <= set(compose["secrets"]), where, f"uses unknown secrets {sorted(secrets)}")
    for name, value in service.get("environment", {}).items():
        if name.endswith("_FILE") and value.startswith("/run/secrets/"):
            report.require(value.removeprefix("/run/secrets/") in secrets, where, f"{name}: it is not given {value}")
    for volume in service.get("volumes", []):
        if volume["type"] == "volume":
            report.require(volume["source"] in compose["volumes"], where, f"uses unknown volume {volume['source']}")


def check_init(folder: Path, work: Path, compose: dict, report: Report) -> None:
    """Runs ./init twice in a copy: it must make every secret, and change none."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    for name in ("init", ".env.example"):
        shutil.copy(folder / name, work)
    states = []
    for _ in range(2):
        done = subprocess.run([str(work / "init")], capture_output=True, text=True)
        if not report.require(done.returncode == 0, "deploy/compose/init", done.stderr.strip()):
            return
        states.append({path.name: path.read_bytes() for path in (work / "secrets").iterdir()})
    report.require(states[0] == states[1], "deploy/compose/init", "makes other secrets the second time")
    for name, secret in compose["secrets"].items():
        made = secret["file"].removeprefix("secrets/") in states[0]
        report.require(made, "deploy/compose/init", f"does not make the secret {name}")
    shutil.rmtree(work)
