#!/usr/bin/env python3
"""The software bill of materials names what the linker has taken from archives: SBOM EXTRACTED (of --why-extract)."""
import json
import re
import sys


def main():
    sbom, extracted = sys.argv[1:]
    with open(sbom) as file:
        text = file.read()
    components = json.loads(text)["components"]
    named = {fact["value"] for component in components for fact in component["properties"]}
    with open(extracted) as file:
        linked = set(re.findall(r"(\w+\.a)\(\S+\)\t", file.read()))
    problems = [f"linked, not in {sbom}: {name}" for name in sorted(linked - named)]
    problems += [f"in {sbom}, not linked: {name}" for name in sorted(named - linked)]
    # A package URL: type, name, and a version after the one "@".
    purls = re.findall(r'"purl": "(.*?)"', text)
    problems += [f"no package URL: {purl}" for purl in purls if not re.fullmatch(r"pkg:\w+/[^@]+@[\w.-]+", purl)]
    print("\n".join(problems) or f"as it should be: {', '.join(sorted(linked))}")
    return 1 if problems or not linked else 0


sys.exit(main())
