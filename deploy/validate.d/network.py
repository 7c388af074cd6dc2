"""Network policies, worked out: who may reach whom."""

from __future__ import annotations

from rendering import Rendered
from report import Report

SERVICES = ("auth", "wallet", "notify", "scheduler")
PROGRAMS = ("gateway", *SERVICES)
GRPC, HTTP, METRICS = 50051, 8080, 9464
POSTGRESQL, AMQP, AMQPS, REDIS, SMTP = 5432, 5672, 5671, 6379, 587

# Each kind of server and who may open a connection to it.
SERVERS = {
    "PostgreSQL": ([POSTGRESQL], {*SERVICES, "migrate"}),
    "RabbitMQ": ([AMQP, AMQPS], {*SERVICES}),
    "Redis": ([REDIS], {"gateway", "notify"}),
    "SMTP": ([SMTP], {"notify"}),
}


def selects(selector: dict, labels: dict) -> bool:
    """Whether a label selector takes these labels."""
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for expression in selector.get("matchExpressions", []):
        value, operator = labels.get(expression["key"]), expression["operator"]
        held = {
            "In": value in expression.get("values", []),
            "NotIn": value not in expression.get("values", []),
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }[operator]
        if not held:
            return False
    return True


class Policies:
    """The policies of one namespace."""

    def __init__(self, one: Rendered) -> None:
        self.all = [policy["spec"] for policy in one.of_kind("NetworkPolicy")]

    def isolates(self, labels: dict, way: str) -> bool:
        return any(way in p["policyTypes"] and selects(p["podSelector"], labels) for p in self.all)

    def allows(self, way: str, mine: dict, other: dict | None, port: int) -> bool:
        """Whether a pod may talk to another (`None`: anything outside of the namespace) in this direction."""
        key, peers = ("egress", "to") if way == "Egress" else ("ingress", "from")
        for policy in self.all:
            if way not in policy["policyTypes"] or not selects(policy["podSelector"], mine):
                continue
            for rule in policy.get(key, []):
                if "ports" in rule and port not in [p["port"] for p in rule["ports"]]:
                    continue
                if peers not in rule or any(self.is_peer(peer, other) for peer in rule[peers]):
                    return True
        return False

    @staticmethod
    def is_peer(peer: dict, other: dict | None) -> bool:
        if "namespaceSelector" in peer or "ipBlock" in peer:
            return other is None
        return other is not None and selects(peer["podSelector"], other)


def check(one: Rendered, report: Report) -> None:
    policies = Policies(one)
    pods = {
        object["metadata"]["name"]: object["spec"]["template"]["metadata"]["labels"]
        for object in one.of_kind("Deployment", "Job")
    }
    names = (*PROGRAMS, "migrate")
    if not report.require(set(pods) == {f"coffer-{name}" for name in names}, one.name, f"has {sorted(pods)}"):
        return
    labels = {name: pods[f"coffer-{name}"] for name in names}
    stranger = {"app.kubernetes.io/name": "stranger"}
    for who in (*labels.values(), stranger):
        for way in ("Ingress", "Egress"):
            report.require(policies.isolates(who, way), one.name, f"{way} is open for {who}")

    def tell(holds: bool, wanted: bool, what: str) -> None:
        report.require(holds == wanted, one.name, f"network: {what} is {'refused' if wanted else 'allowed'}")

    for caller in (*labels, "stranger"):
        for callee in PROGRAMS:
            if caller == callee:
                continue
            mine, other = labels.get(caller, stranger), labels[callee]
            for port in (GRPC, HTTP, METRICS):
                wanted = port == GRPC and (
                    (caller == "gateway") or (callee == "auth" and caller in ("wallet", "notify", "scheduler"))
                )
                # Either end would do to refuse it; both must.
                out, into = policies.allows("Egress", mine, other, port), policies.allows("Ingress", other, mine, port)
                tell(out, wanted, f"{caller} -> {callee}:{port}, going out,")
                tell(into, wanted, f"{caller} -> {callee}:{port}, coming in,")
    for server, (ports, callers) in SERVERS.items():
        for caller, mine in labels.items():
            holds = any(
                policies.allows("Egress", mine, other, port)
                for port in ports
                for other in (None, {"app.kubernetes.io/name": server.lower()})
            )
            tell(holds, caller in callers, f"{caller} -> {server}")
    for name in PROGRAMS:
        tell(policies.allows("Ingress", labels[name], None, METRICS), True, f"monitoring -> {name}:{METRICS}")
        tell(policies.allows("Ingress", labels[name], None, GRPC), False, f"outside -> {name}:{GRPC}")
        tell(policies.allows("Ingress", labels[name], None, HTTP), name == "gateway", f"outside -> {name}:{HTTP}")
