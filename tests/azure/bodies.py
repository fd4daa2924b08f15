#!/usr/bin/env python3
"""Loads every body that the tests sent to the fake Azure into Microsoft's own models.

What a model doesn't know, or takes as something else, doesn't come back the same. The models are
those of PyPI's azure-mgmt-* packages, which Microsoft generates from the published description.

    SANDBOX_BODIES=FOLDER cargo test --workspace
    tests/azure/bodies.py FOLDER
"""

import json
import pathlib
import sys
from collections import Counter

from azure.mgmt.authorization.v2022_04_01 import models as authorization
from azure.mgmt.compute.v2024_07_01 import models as compute
from azure.mgmt.network import models as network
from azure.mgmt.resource.resources.v2021_04_01 import models as resources

MODELS = {
    "NetworkSecurityGroup": network.NetworkSecurityGroup,
    "ResourceGroup": resources.ResourceGroup,
    "RoleAssignment": authorization.RoleAssignmentCreateParameters,
    "VirtualMachine": compute.VirtualMachine,
    "VirtualNetwork": network.VirtualNetwork,
}


def differences(sent, back, at=""):
    """Where two documents aren't the same."""
    if isinstance(sent, dict) and isinstance(back, dict):
        for key in sorted(sent.keys() | back.keys()):
            if key not in back:
                yield f"{at}.{key}: unknown"
            elif key not in sent:
                yield f"{at}.{key}: not sent"
            else:
                yield from differences(sent[key], back[key], f"{at}.{key}")
    elif isinstance(sent, list) and isinstance(back, list) and len(sent) == len(back):
        for number, pair in enumerate(zip(sent, back)):
            yield from differences(*pair, f"{at}[{number}]")
    elif type(sent) is not type(back) and not {type(sent), type(back)} <= {int, float}:
        yield f"{at}: {type(sent).__name__}, not {type(back).__name__}"
    elif sent != back:
        yield f"{at}: another value"


def main():
    folder = pathlib.Path(sys.argv[1])
    lines = {line for file in folder.glob("*.jsonl") for line in file.open()}
    counts, wrong = Counter(), set()
    for record in map(json.loads, lines):
        name, body = record["model"], record["body"]
        counts[name] += 1
        model = MODELS[name].deserialize(body)
        back = model.serialize(keep_readonly=True)
        wrong.update(f"{name}{at}" for at in differences(body, back))
    for line in sorted(wrong):
        print(line, file=sys.stderr)
    for name in MODELS:
        print(f"{counts[name]:6} bodies of {name}")
        if not counts[name]:
            wrong.add(name)
            print(f"no test has sent a {name}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
