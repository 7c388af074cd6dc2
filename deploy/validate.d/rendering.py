"""Renders every kustomization that is meant to be applied."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import yaml

from report import Report

OLDEST = "1.27"
NEEDS = re.compile(r"Needs Kubernetes (\d+\.\d+)")


@dataclass
class Rendered:
    """The objects of one kustomization, and the oldest Kubernetes that it is for."""

    name: str
    objects: list[dict]
    oldest: str = OLDEST

    def of_kind(self, *kinds: str) -> list[dict]:
        return [one for one in self.objects if one["kind"] in kinds]


def objects_of(text: str) -> list[dict]:
    return [one for one in yaml.safe_load_all(text) if one]


def build(command: list[str], folder: Path, name: str, report: Report) -> list[dict] | None:
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True)
    if done.returncode != 0:
        report.problem(name, f"does not build: {done.stderr.strip()[:2000]}")
        return None
    for line in done.stderr.splitlines():
        # A field that the next version drops.
        if "deprecated" in line.lower():
            report.problem(name, line.strip())
    return objects_of(done.stdout)


def render(command: list[str], root: Path, work: Path, report: Report) -> list[Rendered]:
    """The base and the overlays as they are, and the base with each component alone."""
    kubernetes = root / "deploy/kubernetes"
    found = []
    for folder in [kubernetes / "base", *sorted(kubernetes.glob("overlays/*"))]:
        name = str(folder.relative_to(root))
        objects = build(command, folder, name, report)
        if objects is not None:
            found.append(Rendered(name, objects))
            check_targets(folder, name, objects, report)
    shutil.rmtree(work, ignore_errors=True)
    for component in sorted(kubernetes.glob("components/*")):
        name = str(component.relative_to(root))
        text = (component / "kustomization.yaml").read_text()
        needs = NEEDS.search(text)
        folder = work / component.name
        folder.mkdir(parents=True)
        # Relative: kustomize takes no absolute path.
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": "coffer",
            "resources": [os.path.relpath(kubernetes / "base", folder)],
            "components": [os.path.relpath(component, folder)],
        }
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        objects = build(command, folder, name, report)
        if objects is not None:
            found.append(Rendered(name, objects, needs[1] if needs else OLDEST))
            check_targets(component, name, objects, report)
    return found


def check_targets(folder: Path, place: str, objects: list[dict], report: Report) -> None:
    """Kustomize says nothing about a patch that meets no object."""
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    for patch in kustomization.get("patches", []):
        target = patch.get("target")
        if target is None:
            continue
        labels = dict(pair.split("=") for pair in target.get("labelSelector", "").split(",") if pair)
        met = [
            one
            for one in objects
            if one["kind"] == target.get("kind", one["kind"])
            and re.fullmatch(target.get("name", ".*"), one["metadata"]["name"])
            and labels.items() <= one["metadata"].get("labels", {}).items()
        ]
        report.require(met, place, f"patches {target}, which is not there")
