#!/usr/bin/env python3
"""What schemas do not say of compose.yaml and the Kubernetes manifests: that they fit together."""

import pathlib
import sys
import tomllib

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[3]
KUBERNETES = ROOT / "packaging/kubernetes"
UID = 65532

problems = []


def demand(true, what):
    if not true:
        problems.append(what)


def pod_of(document):
    return document["spec"] if document["kind"] == "Pod" else document["spec"]["template"]["spec"]


def restricted(name, pod, container):
    """The restricted Pod Security Standard, as far as it concerns containers."""
    both = {**pod.get("securityContext", {}), **container.get("securityContext", {})}
    demand(both.get("runAsNonRoot") is True, f"{name}: runAsNonRoot")
    demand(both.get("runAsUser"), f"{name}: runAsUser")
    demand(both.get("allowPrivilegeEscalation") is False, f"{name}: allowPrivilegeEscalation")
    demand(both.get("capabilities") == {"drop": ["ALL"]}, f"{name}: capabilities")
    demand(both.get("seccompProfile") == {"type": "RuntimeDefault"}, f"{name}: seccompProfile")
    demand(both.get("readOnlyRootFilesystem") is True, f"{name}: readOnlyRootFilesystem")


def main():
    documents = [document for path in sorted(KUBERNETES.glob("*.yaml"))
                 for document in yaml.safe_load_all(path.read_text())]
    configs = [tomllib.loads(document["data"]["config.toml"]) for document in documents
               if document["kind"] == "ConfigMap"]
    configs.append(tomllib.loads((ROOT / "packaging/container/config.toml").read_text()))
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]
    for config in configs:
        demand([listener["unix"] for listener in config["listener"]] == ["/run/mcp-auth-proxy/proxy.sock"],
               "a configuration listens elsewhere")
    for document in documents:
        if document["kind"] not in ("Deployment", "DaemonSet", "Pod"):
            continue
        pod = pod_of(document)
        demand(pod["automountServiceAccountToken"] is False, f"{document['kind']}: a token is mounted")
        for container in pod.get("initContainers", []) + pod["containers"]:
            name = f"{document['kind']} {document['metadata']['name']}, container {container['name']}"
            mounts = {mount["mountPath"]: mount for mount in container.get("volumeMounts", [])}
            uid = container["securityContext"].get("runAsUser", pod.get("securityContext", {}).get("runAsUser"))
            if container["name"] == "directory":
                continue
            restricted(name, pod, container)
            if container["name"] == "mcp-auth-proxy":
                demand(uid == UID, f"{name}: uid")
                demand(container["image"] == f"mcp-auth-proxy:{version}", f"{name}: image")
                demand(mounts.keys() == {"/etc/mcp-auth-proxy", "/run/secrets/mcp-auth-proxy", "/run/mcp-auth-proxy"},
                       f"{name}: mounts")
                for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                    demand("exec" in container[probe], f"{name}: {probe}")
                volumes = {volume["name"]: volume for volume in pod["volumes"]}
                secret = volumes[mounts["/run/secrets/mcp-auth-proxy"]["name"]]["secret"]
                demand(secret["defaultMode"] & 0o007 == 0, f"{name}: the secret is everybody's")
                demand(pod["securityContext"]["fsGroup"] == UID, f"{name}: the secret's group")
            else:
                demand(uid != UID, f"{name}: has the proxy's uid, and with it the admin socket")
                demand(mounts["/run/mcp-auth-proxy"].get("readOnly") is True, f"{name}: may replace the socket")
                groups = {pod["securityContext"].get("fsGroup"), *pod["securityContext"].get("supplementalGroups", [])}
                demand(UID in groups, f"{name}: may not use the socket")
    compose = yaml.safe_load((ROOT / "packaging/container/compose.yaml").read_text())["services"]
    demand(compose["proxy"]["image"].endswith(f"{version}}}"), "compose.yaml: image")
    for name, service in compose.items():
        demand(service["read_only"] and service["cap_drop"] == ["ALL"], f"compose.yaml: {name} is not confined")
    demand(compose["agent"]["network_mode"] == "none", "compose.yaml: the agent has a network")
    demand("secrets" not in compose["agent"], "compose.yaml: the agent has the secret")
    demand(compose["agent"]["user"].split(":")[0] != str(UID), "compose.yaml: the agent has the proxy's uid")
    print("\n".join(problems), end="")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
