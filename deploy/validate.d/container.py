"""The container file and the scripts."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from report import Report

PROGRAMS = ("coffer", "gateway", "auth-service", "wallet-service", "notify-service", "scheduler-service")
SCRIPTS = {
    "deploy/validate": "bash",
    "deploy/compose/init": "bash",
    "deploy/compose/databases.sh": "bash",
    "deploy/compose/keys.sh": "busybox",
    "deploy/kubernetes/key-secrets": "bash",
}


def run(command: list[str], place: str, report: Report) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    report.require(done.returncode == 0, place, (done.stdout + done.stderr).strip())


def check(root: Path, report: Report) -> None:
    place = "deploy/container/Dockerfile"
    run(["hadolint", "--failure-threshold", "info", str(root / place)], place, report)
    text = (root / place).read_text()
    for program in PROGRAMS:
        report.require(re.search(rf"--bin {program}\b", text), place, f"does not build {program}")
        report.require(f"target/release/{program}" in text, place, f"does not keep {program}")
    manifest = (root / "Cargo.toml").read_text()
    wanted = re.search(r'^rust-version = "([\d.]+)"', manifest, re.M)
    used = re.search(r"^ARG RUST_VERSION=([\d.]+)", text, re.M)
    report.require(wanted and used and wanted[1] == used[1], place, "builds with another Rust than Cargo.toml wants")
    # What the builder does not get, it cannot build.
    sent = set(re.findall(r"^!(\S+)$", (root / ".dockerignore").read_text(), re.M))
    members = re.search(r"^members = \[(.*?)\]", manifest, re.M | re.S)
    for member in re.findall(r'"([^"]+)"', members[1] if members else ""):
        report.require(member in sent, ".dockerignore", f"keeps {member} from the builder")
    report.checked.append("the container file by hadolint")
    report.beyond.append("whether the image builds and runs: that needs a container engine")
    for script, shell in SCRIPTS.items():
        run(["shellcheck", f"--shell={shell}", str(root / script)], script, report)
    report.checked.append(f"{len(SCRIPTS)} scripts by shellcheck")
