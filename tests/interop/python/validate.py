"""Holds what the service prints of its log against other people's definitions: see tests/interop/README.md.

usage: validate.py FHIR OCSF LOG

FHIR and OCSF are files of one resource or event a line; LOG is the exported log. Says how many of each hold, and fails with
the first that do not.
"""

import json
import pathlib
import struct
import sys

import jsonschema
import ocsf_json_schema
import rfc8785
from fhir.resources.R4B.auditevent import AuditEvent

fhir, ocsf, log = map(pathlib.Path, sys.argv[1:])
faults = []


def lines(path):
    return path.read_text().splitlines()


def entries():
    """The newest bundle of each place: entries, each after its length in two bytes."""
    bundles = {}
    for path in sorted((log / "tile" / "entries").rglob("*")):
        if not path.is_file():
            continue
        name = path.relative_to(log).as_posix()
        place, _, width = name.partition(".p/")
        width = int(width or 256)
        bundles[place] = max(bundles.get(place, (0, path)), (width, path))
    for _, (_, path) in sorted(bundles.items()):
        rest = path.read_bytes()
        while rest:
            (length,) = struct.unpack(">H", rest[:2])
            yield rest[2 : 2 + length]
            rest = rest[2 + length :]


for line in lines(fhir):
    try:
        AuditEvent.model_validate_json(line)
    except ValueError as error:
        faults.append(f"fhir: {error}")

schema = ocsf_json_schema.OcsfJsonSchemaEmbedded(ocsf_json_schema.get_ocsf_schema("1.3.0"))
validator = jsonschema.Draft202012Validator(schema.get_class_schema("api_activity"))
for line in lines(ocsf):
    for error in validator.iter_errors(json.loads(line)):
        faults.append(f"ocsf: {list(error.absolute_path)}: {error.message}")

count = 0
for entry in entries():
    count += 1
    if rfc8785.dumps(json.loads(entry)) != entry:
        faults.append(f"jcs: entry {count - 1} is not canonical")

if faults:
    sys.exit(f"{len(faults)} faults: " + "; ".join(faults[:5]))
print(f"{len(lines(fhir))} fhir, {len(lines(ocsf))} ocsf, {count} canonical")
