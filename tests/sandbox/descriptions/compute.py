#!/usr/bin/env python3
"""Makes compute.v1.json: what the sandbox needs of Compute Engine's discovery document.

The whole document, several megabytes, is in PyPI's google-api-python-client. Kept are the methods
that the sandbox has and the schemas that can be reached from them: names, types, formats, enums
and patterns; none of Google's prose.

2.200.0 is the last package that describes v1 itself, as calls without the header
X-Goog-Api-Version have it. Later ones describe versions by date, which lack a parameter.

    pip download --no-deps google-api-python-client==2.200.0
    tests/sandbox/descriptions/compute.py google_api_python_client-*.whl
"""

import json
import pathlib
import sys
import zipfile

DOCUMENT = "googleapiclient/discovery_cache/documents/compute.v1.json"
METHODS = """
    diskTypes.get
    firewalls.delete firewalls.get firewalls.insert firewalls.list
    globalOperations.get globalOperations.wait
    images.get images.getFromFamily
    instances.aggregatedList instances.delete instances.get instances.getSerialPortOutput
    instances.insert instances.list
    machineTypes.get machineTypes.list
    networks.get networks.insert networks.list
    zoneOperations.get zoneOperations.wait
    zones.get zones.list
""".split()
# What of a method, a parameter or a property is kept as it is.
KEPT = """
    $ref default enum format location maximum minimum pattern repeated required type
""".split()


def output_only(thing):
    """Whether only Google sets it. Older fields say so in their description alone."""
    text = thing.get("description", "").lstrip()
    return thing.get("readOnly", False) or text.startswith(("[Output Only]", "Output only."))


def reduced(thing):
    kept = {key: thing[key] for key in KEPT if key in thing}
    if output_only(thing):
        kept["readOnly"] = True
    needed = thing.get("annotations", {}).get("required")
    if needed:
        kept["requiredBy"] = [
            method.removeprefix("compute.")
            for method in needed
            if method.removeprefix("compute.") in METHODS
        ]
    for key in ("items", "additionalProperties"):
        if key in thing:
            kept[key] = reduced(thing[key])
    if "properties" in thing:
        kept["properties"] = {
            name: reduced(value) for name, value in sorted(thing["properties"].items())
        }
    return kept


def references(thing):
    if isinstance(thing, dict):
        if isinstance(thing.get("$ref"), str):
            yield thing["$ref"]
        for value in thing.values():
            yield from references(value)


def main(wheel):
    with zipfile.ZipFile(wheel) as archive:
        document = json.loads(archive.read(DOCUMENT))
    methods, wanted = {}, ["Operation"]
    for name in METHODS:
        resource, verb = name.split(".")
        method = document["resources"][resource]["methods"][verb]
        kept = {
            "httpMethod": method["httpMethod"],
            "path": method["path"],
            "parameters": {
                key: reduced(value) for key, value in sorted(method["parameters"].items())
            },
            "scopes": method["scopes"],
        }
        for key in ("request", "response"):
            if key in method:
                kept[key] = method[key]["$ref"]
                wanted.append(kept[key])
        methods[name] = kept
    schemas = {}
    while wanted:
        name = wanted.pop()
        if name not in schemas:
            schemas[name] = reduced(document["schemas"][name])
            wanted.extend(references(schemas[name]))
    result = {
        "revision": document["revision"],
        "servicePath": document["servicePath"],
        "parameters": {
            key: reduced(value) for key, value in sorted(document["parameters"].items())
        },
        "methods": methods,
        "schemas": dict(sorted(schemas.items())),
    }
    target = pathlib.Path(__file__).with_name("compute.v1.json")
    target.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
