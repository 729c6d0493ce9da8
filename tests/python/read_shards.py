"""Reads shards with the webdataset package and prints what it found as JSON lines.

Usage: python read_shards.py SHARD...
"""

import hashlib
import json
import sys

import webdataset

for sample in webdataset.WebDataset(sys.argv[1:], shardshuffle=False):
    extension = next(extension for extension in ("jpg", "png") if extension in sample)
    found = {
        "key": sample["__key__"],
        "label": int(sample["cls"]),
        "extension": extension,
        "image": hashlib.sha256(sample[extension]).hexdigest(),
        "meta": json.loads(sample["json"]),
    }
    print(json.dumps(found))
