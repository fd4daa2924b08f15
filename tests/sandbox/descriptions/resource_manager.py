#!/usr/bin/env python3
"""Makes resource_manager.json: what the sandbox needs of Azure Resource Manager's published description.

Microsoft generates the models of PyPI's azure-mgmt-* packages from that description. Kept are the
types of the bodies that the sandbox reads and writes and what can be reached from them: names,
types, enums, what is required and what only the service sets; none of Microsoft's prose.

    pip install azure-mgmt-compute==33.0.0 azure-mgmt-network==28.1.0 \\
        azure-mgmt-resource==23.1.1 azure-mgmt-authorization==4.0.0
    tests/sandbox/descriptions/resource_manager.py
"""

import enum
import importlib
import inspect
import json
import pathlib

# Package, API version, the bodies that come in, and those that go out.
SOURCES = [
    (
        "azure.mgmt.compute.v2024_07_01.models",
        "2024-07-01",
        ["VirtualMachine"],
        [
            "RetrieveBootDiagnosticsDataResult",
            "VirtualMachine",
            "VirtualMachineImage",
            "VirtualMachineInstanceView",
        ],
    ),
    ("azure.mgmt.compute.v2021_07_01.models", "2021-07-01", [], ["ResourceSku"]),
    (
        "azure.mgmt.network.models",
        "2024-05-01",
        ["NetworkSecurityGroup", "VirtualNetwork"],
        [],
    ),
    (
        "azure.mgmt.resource.resources.v2021_04_01.models",
        "2021-04-01",
        ["ResourceGroup"],
        ["ResourceGroup"],
    ),
    (
        "azure.mgmt.authorization.v2022_04_01.models",
        "2022-04-01",
        ["RoleAssignmentCreateParameters"],
        ["Permission", "RoleAssignment"],
    ),
]
TYPES = {
    "bool": "boolean",
    "bytearray": "string",
    "date": "string",
    "duration": "string",
    "float": "number",
    "int": "integer",
    "iso-8601": "string",
    "object": "any",
    "str": "string",
    "time": "string",
}

# Enums that say themselves that there is more.
OPEN = ["vmSize"]


class Source:
    """One package's models, with those found so far."""

    def __init__(self, module, version):
        self.models = importlib.import_module(module)
        self.version = version
        self.types = {}

    def want(self, name, answers):
        """Describes a type; with `answers`: also what only the service sets in it."""
        known = self.types.get(name)
        if known is not None and (known["answers"] or not answers):
            return
        self.types[name] = {"answers": answers}
        cls = getattr(self.models, name)
        fields = self.fields_of(cls)
        kept = {}
        for key, field in sorted(fields.items()):
            if field.get("readOnly") and not answers:
                # Its type isn't needed: nobody may send it.
                field = {"type": "any", "readOnly": True}
            else:
                for model in references(field):
                    self.want(model, answers)
            kept[key] = field
        self.types[name]["fields"] = kept

    def fields_of(self, cls):
        rules = getattr(cls, "_validation", {})
        enums = {}
        for name, parameter in inspect.signature(cls.__init__).parameters.items():
            for word in str(parameter.annotation).replace("'", '"').split('"'):
                found = getattr(self.models, word.removeprefix("_models."), None)
                if is_enum(found):
                    enums[name] = words(found)
        fields = {}
        for name, how in cls._attribute_map.items():
            rule = rules.get(name, {})
            field = enums.get(name) or self.type_of(how["type"])
            if rule.get("readonly"):
                field["readOnly"] = True
            if rule.get("required"):
                field["required"] = True
            at = fields
            *outer, key = how["key"].split(".")
            for part in outer:
                inner = at.setdefault(part, {"type": "object", "fields": {}})
                if rule.get("required"):
                    inner["required"] = True
                at = inner["fields"]
            if key in OPEN:
                field.pop("enum", None)
            at[key] = field
        return fields

    def type_of(self, text):
        if text.startswith("["):
            return {"type": "array", "items": self.type_of(text[1:-1])}
        if text.startswith("{"):
            return {"type": "map", "items": self.type_of(text[1:-1])}
        if text in TYPES:
            return {"type": TYPES[text]}
        return {"type": "object", "model": text}


def is_enum(thing):
    return inspect.isclass(thing) and issubclass(thing, enum.Enum)


def words(cls):
    return {"type": "string", "enum": sorted(member.value for member in cls)}


def references(thing):
    if isinstance(thing, dict):
        if isinstance(thing.get("model"), str):
            yield thing["model"]
        for value in thing.values():
            yield from references(value)


def main():
    types = {}
    for module, version, incoming, outgoing in SOURCES:
        source = Source(module, version)
        for name in incoming:
            source.want(name, False)
        for name in outgoing:
            source.want(name, True)
        provider = module.split(".")[2]
        for name, kept in source.types.items():
            types[f"{provider}.{name}"] = qualified(provider, kept["fields"])
    text = json.dumps(types, separators=(",", ":"), sort_keys=True)
    # A line for each type, so that a change shows where it is.
    text = text.replace('},"', '},\n"')
    pathlib.Path(__file__).with_name("resource_manager.json").write_text(text + "\n")


def qualified(provider, thing):
    """Models of two packages may have one name."""
    if isinstance(thing, dict):
        return {
            key: f"{provider}.{value}"
            if key == "model" and isinstance(value, str)
            else qualified(provider, value)
            for key, value in thing.items()
        }
    return thing


if __name__ == "__main__":
    main()
