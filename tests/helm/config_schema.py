"""The part of the chart's values.schema.json that knows Hardy's settings.

    config_schema.py            says whether it is what configs/default.toml asks for
    config_schema.py --write    makes it so
"""

import json
import pathlib
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCHEMA = ROOT / "helm/hardy/values.schema.json"
SECRETS = {("queue", "url"), ("http", "token"), ("webhook", "url")}  # come from Secrets, never from values
FIXED = {("http", "listen")}  # the chart's own
KINDS = {bool: "boolean", str: "string", int: "number", float: "number", list: "array"}


def wanted():
    """A schema of names and kinds; values are Hardy's to check, so their ranges are not repeated."""
    defaults = tomllib.loads((ROOT / "configs/default.toml").read_text())

    def kind(section, key, value):
        if (section, key) in SECRETS | FIXED:
            return None
        if "epsilon" in key and not isinstance(value, list):
            return {"type": ["number", "string", "null"]}  # a number or a fraction in quotes
        return {"type": [KINDS[type(value)], "null"]}

    sections = {}
    for section, keys in defaults.items():
        kinds = {key: kind(section, key, value) for key, value in keys.items()}
        properties = {key: value for key, value in kinds.items() if value}
        sections[section] = {"type": "object", "additionalProperties": False, "properties": properties}
    return {"type": "object", "additionalProperties": False, "properties": sections}


def main():
    schema = json.loads(SCHEMA.read_text())
    if schema["$defs"]["config"] == wanted():
        return
    if "--write" not in sys.argv:
        raise SystemExit(f"{SCHEMA.name} does not know the settings of configs/default.toml: run {__file__} --write")
    schema["$defs"]["config"] = wanted()
    SCHEMA.write_text(json.dumps(schema, indent=2) + "\n")


if __name__ == "__main__":
    main()
