"""What every pod and every workload must have, beyond what a schema can tell."""

from __future__ import annotations

from network import selects
from rendering import Rendered
from report import Report

# Longest that the gateway lets a request run, in seconds.
REQUEST_SECONDS = 30
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")


def pod_of(object: dict) -> dict:
    return object["spec"]["template"]


def labels_of(object: dict) -> dict:
    return pod_of(object)["metadata"].get("labels", {})


def check(one: Rendered, report: Report) -> None:
    for object in one.of_kind("Deployment", "StatefulSet", "DaemonSet", "Job"):
        check_pod(f"{one.name} {object['kind']}/{object['metadata']['name']}", object, report)
    deployments = one.of_kind("Deployment")
    report.require(deployments, one.name, "has no Deployment")
    for object in deployments:
        check_deployment(one, object, report)
    check_services(one, report)
    check_references(one, report)


def check_pod(place: str, object: dict, report: Report) -> None:
    spec = pod_of(object)["spec"]
    pod = spec.get("securityContext", {})
    report.require(pod.get("runAsNonRoot") is True, place, "does not say runAsNonRoot")
    report.require(pod.get("runAsUser", 0) > 0, place, "names no user but root")
    report.require(
        pod.get("seccompProfile", {}).get("type") == "RuntimeDefault", place, "has no seccomp profile RuntimeDefault"
    )
    report.require(spec.get("automountServiceAccountToken") is False, place, "mounts a token of Kubernetes")
    for flag in ("hostNetwork", "hostPID", "hostIPC"):
        report.require(not spec.get(flag), place, f"uses {flag}")
    volumes = {volume["name"] for volume in spec.get("volumes", [])}
    volumes |= {claim["metadata"]["name"] for claim in object["spec"].get("volumeClaimTemplates", [])}
    mounted = set()
    for container in spec["containers"] + spec.get("initContainers", []):
        security = container.get("securityContext", {})
        report.require(security.get("allowPrivilegeEscalation") is False, place, "allows privilege escalation")
        report.require(security.get("capabilities", {}).get("drop") == ["ALL"], place, "does not drop ALL capabilities")
        resources = container.get("resources", {})
        for key in ("cpu", "memory"):
            report.require(key in resources.get("requests", {}), place, f"requests no {key}")
        report.require("memory" in resources.get("limits", {}), place, "has no limit of memory")
        mounts = {mount["name"] for mount in container.get("volumeMounts", [])}
        report.require(mounts <= volumes, place, f"mounts {sorted(mounts - volumes)}, which are no volumes")
        mounted |= mounts
    report.require(volumes <= mounted, place, f"mounts none of {sorted(volumes - mounted)}")
    if labels_of(object).get("app.kubernetes.io/name") == "coffer":
        report.require(
            spec.get("enableServiceLinks") is False,
            place,
            "has service links: their COFFER_ variables would be refused",
        )


def check_deployment(one: Rendered, object: dict, report: Report) -> None:
    name = object["metadata"]["name"]
    place = f"{one.name} Deployment/{name}"
    spec, labels = pod_of(object)["spec"], labels_of(object)
    container = spec["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
    for probe in PROBES:
        get = container.get(probe, {}).get("httpGet", {})
        report.require(get.get("port") in ports, place, f"has no {probe} over HTTP on a port of its own")
    report.require(
        container.get("securityContext", {}).get("readOnlyRootFilesystem") is True, place, "may write to its root"
    )
    rolling = object["spec"].get("strategy", {}).get("rollingUpdate", {})
    report.require(rolling.get("maxUnavailable") == 0, place, "gives up a pod before the next is ready")
    report.require("replicas" not in object["spec"], place, "sets replicas, which are the autoscaler's")
    environment = {one["name"]: one.get("value") for one in container.get("env", [])}
    drain = int(environment.get("COFFER_SHUTDOWN__DRAIN_MS", 0)) / 1000
    report.require(drain > 0, place, "does not drain")
    report.require(
        spec.get("terminationGracePeriodSeconds", 30) > drain + REQUEST_SECONDS,
        place,
        f"is killed before its {drain:g} s of drain and {REQUEST_SECONDS} s of running requests are over",
    )
    for spread in spec.get("topologySpreadConstraints", [{}]):
        report.require(
            spread.get("labelSelector", {}).get("matchLabels") == object["spec"]["selector"]["matchLabels"],
            place,
            "spreads over nodes with a selector that is not its own",
        )
    budgets = [b for b in one.of_kind("PodDisruptionBudget") if selects(b["spec"]["selector"], labels)]
    report.require(len(budgets) == 1, place, f"has {len(budgets)} disruption budgets, not one")
    scalers = [
        h
        for h in one.of_kind("HorizontalPodAutoscaler")
        if (h["spec"]["scaleTargetRef"]["kind"], h["spec"]["scaleTargetRef"]["name"]) == ("Deployment", name)
    ]
    if report.require(len(scalers) == 1, place, f"has {len(scalers)} autoscalers, not one"):
        check_autoscaler(one, scalers[0], report)
    # More than the policies that hold for every pod.
    policies = [
        p
        for p in one.of_kind("NetworkPolicy")
        if p["spec"]["podSelector"] and selects(p["spec"]["podSelector"], labels)
    ]
    report.require(policies, place, "is selected by no network policy of its own")


def check_autoscaler(one: Rendered, scaler: dict, report: Report) -> None:
    place = f"{one.name} HorizontalPodAutoscaler/{scaler['metadata']['name']}"
    spec = scaler["spec"]
    if not one.name.endswith("/trial"):
        report.require(spec.get("minReplicas", 1) >= 2, place, "may go down to one replica")
    targets = {
        metric["resource"]["name"]: metric["resource"]["target"].get("averageUtilization")
        for metric in spec["metrics"]
        if metric["type"] == "Resource"
    }
    report.require(targets == {"cpu": 70, "memory": 80}, place, "does not aim at 70 % CPU and 80 % memory")
    windows = [spec["behavior"][way].get("stabilizationWindowSeconds") for way in ("scaleUp", "scaleDown")]
    report.require(windows == [300, 600], place, "does not wait 5 minutes to go up and 10 to go down")


def check_services(one: Rendered, report: Report) -> None:
    pods = [pod_of(object) for object in one.of_kind("Deployment", "StatefulSet")]
    for service in one.of_kind("Service"):
        place = f"{one.name} Service/{service['metadata']['name']}"
        behind = [pod for pod in pods if selects({"matchLabels": service["spec"]["selector"]}, pod["metadata"]["labels"])]
        report.require(len(behind) == 1, place, f"stands for {len(behind)} workloads, not one")
        for pod in behind:
            named = {port["name"] for c in pod["spec"]["containers"] for port in c.get("ports", [])}
            for port in service["spec"]["ports"]:
                report.require(port["targetPort"] in named, place, f"leads to {port['targetPort']}, which is no port")


def check_references(one: Rendered, report: Report) -> None:
    """ConfigMaps must be there; a Secret either is there, or is one that the operator of a cluster makes."""
    maps = {object["metadata"]["name"] for object in one.of_kind("ConfigMap")}
    accounts = {object["metadata"]["name"] for object in one.of_kind("ServiceAccount")}
    for object in one.of_kind("Deployment", "StatefulSet", "Job"):
        place = f"{one.name} {object['kind']}/{object['metadata']['name']}"
        spec = pod_of(object)["spec"]
        names = [source["configMapRef"]["name"] for c in spec["containers"] for source in c.get("envFrom", [])]
        names += [volume["configMap"]["name"] for volume in spec.get("volumes", []) if "configMap" in volume]
        for name in names:
            report.require(name in maps, place, f"names the ConfigMap {name}, which is not there")
        account = spec.get("serviceAccountName")
        report.require(account is None or account in accounts, place, f"names the account {account}, which is not there")
