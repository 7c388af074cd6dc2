"""Objects against the schemas of Kubernetes, unknown fields refused."""

from __future__ import annotations

import json
from pathlib import Path

import kubernetes_validate

from rendering import Rendered, objects_of
from report import Report

# Kinds that others define; their schemas are not in the validator.
FOREIGN = ("monitoring.coreos.com/", "cert-manager.io/")


def check(rendered: list[Rendered], root: Path, report: Report) -> None:
    newest = kubernetes_validate.latest_version().rsplit(".", 1)[0]
    loose = []
    # Manifests that belong to no kustomization.
    for path in sorted(root.glob("deploy/kubernetes/overlays/*/*.example.yaml")):
        loose.append(Rendered(str(path.relative_to(root)), objects_of(path.read_text())))
    # Most objects of an overlay are those of the base; each is looked at once for each version.
    seen: set[tuple[str, str]] = set()
    foreign = set()
    for one in rendered + loose:
        for object in one.objects:
            if object["apiVersion"].startswith(FOREIGN):
                foreign.add(object["kind"])
                continue
            for version in (one.oldest, newest):
                key = (version, json.dumps(object, sort_keys=True))
                if key not in seen:
                    seen.add(key)
                    validate(object, version, one.name, report)
    report.checked.append(
        f"{len({text for _, text in seen})} different objects of {len(rendered)} kustomizations by kubernetes-validate "
        f"{kubernetes_validate.__version__}, strict, for Kubernetes {rendered[0].oldest} and {newest}"
    )
    if foreign:
        report.beyond.append(f"fields of {', '.join(sorted(foreign))}: no public schema is at hand")


def validate(object: dict, version: str, place: str, report: Report) -> None:
    name = f"{place} {object['kind']}/{object['metadata']['name']}"
    try:
        kubernetes_validate.validate(object, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        path = ".".join(str(part) for part in error.path)
        report.problem(name, f"{path}: {error.message[:500]} (Kubernetes {version})")
    except kubernetes_validate.SchemaNotFoundError:
        report.problem(name, f"Kubernetes {version} has no {object['apiVersion']} {object['kind']}")
