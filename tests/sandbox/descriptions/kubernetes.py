#!/usr/bin/env python3
"""Makes kubernetes.v1.37.json: what the sandbox needs of Kubernetes' published OpenAPI schema.

The whole schema is in PyPI's kubernetes-validate, for each version of Kubernetes. Kept are the kinds
that the sandbox has and the definitions that can be reached from them: names, types, formats, and
what tells how lists are merged; none of the prose.

    pip download --no-deps kubernetes-validate==1.37.0
    tests/sandbox/descriptions/kubernetes.py kubernetes_validate-*.whl
"""

import json
import pathlib
import sys
import zipfile

VERSION = "1.37"
DOCUMENT = (
    f"kubernetes_validate/kubernetes-json-schema/v{VERSION}.0-local/_definitions.json"
)
ROOT = "io.k8s."
KINDS = """
    api.authorization.v1.SelfSubjectAccessReview
    api.batch.v1.Job
    api.core.v1.Event
    api.core.v1.Namespace
    api.core.v1.Node
    api.core.v1.Pod
    api.core.v1.Secret
    api.core.v1.ServiceAccount
    api.policy.v1.Eviction
    apimachinery.pkg.apis.meta.v1.DeleteOptions
    apimachinery.pkg.apis.meta.v1.Status
""".split()
# What of a definition or a property is kept as it is.
KEPT = "format required".split()


def reduced(thing):
    kept = {key: thing[key] for key in KEPT if key in thing}
    if "$ref" in thing:
        kept["ref"] = thing["$ref"].removeprefix("#/$defs/").removeprefix(ROOT)
    kinds = thing.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    for option in thing.get("oneOf", []):
        kinds = kinds + option["type"]
    kinds = sorted(set(kinds) - {"null"})
    if kinds:
        kept["types"] = kinds
    if "x-kubernetes-patch-merge-key" in thing:
        kept["mergeKey"] = thing["x-kubernetes-patch-merge-key"]
    if "x-kubernetes-patch-strategy" in thing:
        kept["strategy"] = thing["x-kubernetes-patch-strategy"].split(",")
    for key in ("items", "additionalProperties"):
        if key in thing:
            kept[key] = reduced(thing[key])
    if "properties" in thing:
        kept["properties"] = {
            key: reduced(value) for key, value in sorted(thing["properties"].items())
        }
    return kept


def references(thing):
    if isinstance(thing, dict):
        if isinstance(thing.get("ref"), str):
            yield thing["ref"]
        for value in thing.values():
            yield from references(value)


def main(wheel):
    with zipfile.ZipFile(wheel) as archive:
        definitions = json.loads(archive.read(DOCUMENT))["$defs"]
    result, wanted = {}, list(KINDS)
    while wanted:
        name = wanted.pop()
        if name not in result:
            result[name] = reduced(definitions[ROOT + name])
            wanted.extend(references(result[name]))
    target = pathlib.Path(__file__).with_name(f"kubernetes.v{VERSION}.json")
    target.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
