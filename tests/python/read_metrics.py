"""Reads OpenMetrics text from stdin with Prometheus's own parser, which refuses what is malformed.

Prints a JSON list of {family, type, help, samples: [{name, labels, value}]}.
"""

import json
import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families

families = [
    {
        "family": family.name,
        "type": family.type,
        "help": family.documentation,
        "samples": [{"name": s.name, "labels": s.labels, "value": s.value} for s in family.samples],
    }
    for family in text_string_to_metric_families(sys.stdin.read())
]
json.dump(families, sys.stdout)
