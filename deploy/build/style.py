#!/usr/bin/env python3
"""The style rules no lint of the compiler knows: file sizes, headers, names, and who may use whom.

usage: style.py       checks the repository it lies in; one line a finding, exit code 1 when there are any
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LINES_MAX = 400
README_LINES_MAX = 150
HEADER_CHARACTERS_MIN = 16
# Names that collect what nobody placed.
VAGUE = {"util", "utils", "common", "helper", "helpers", "misc", "manager", "shared", "types", "handler", "handlers"}

# folder -> (our packages it may use, crates of others it must never use). ARCHITECTURE.md says why.
ARROWS = {
    "consensus/catalog": (set(), {"tokio", "openraft", "rocksdb", "axum", "hyper", "rand", "quinn", "reqwest"}),
    "consensus": ({"peerglass-catalog"}, {"axum", "hyper", "reqwest"}),
    "transfer": ({"peerglass-catalog"}, {"openraft", "openraft-rt", "axum", "hyper"}),
    "api": (
        {"peerglass-catalog", "peerglass-consensus", "peerglass-transfer"},
        {"openraft", "openraft-rt", "rocksdb", "quinn", "reqwest"},
    ),
    "node": ({"peerglass-catalog", "peerglass-consensus", "peerglass-transfer", "peerglass-api"}, set()),
    "simulations": (
        {"peerglass", "peerglass-catalog", "peerglass-consensus", "peerglass-transfer", "peerglass-api"},
        set(),
    ),
}
# What a package's own tests may use beyond that.
TEST_ARROWS = {"transfer": set(), "api": set(), "consensus": set(), "consensus/catalog": set()}


def sources():
    """Every file of ours that people read as code."""
    for pattern in ("*.rs", "*.py", "*.sh"):
        for path in sorted(ROOT.rglob(pattern)):
            parts = path.relative_to(ROOT).parts
            if parts[0] not in ("target", ".git") and "peerglass-data" not in parts:
                yield path


def file_findings(path):
    """Length, header and name of one file."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    name = path.relative_to(ROOT)
    if len(lines) > LINES_MAX:
        yield f"{name}: {len(lines)} lines, at most {LINES_MAX}"
    if path.stem in VAGUE or any(part in VAGUE for part in name.parts[:-1]):
        yield f"{name}: a vague name; name what it holds"
    if path.suffix == ".rs":
        first = next((line for line in lines if line.strip()), "")
        if not first.startswith("//!") or len(first) < HEADER_CHARACTERS_MIN:
            if "#![doc = include_str!" not in first:
                yield f"{name}: does not open with a `//!` sentence that says what it is"
    if path.suffix == ".sh" and not any(line.startswith("# ") for line in lines[:3]):
        yield f"{name}: no header comment"
    if path.suffix == ".py" and '"""' not in "\n".join(lines[:2]):
        yield f"{name}: no header text"


def arrow_findings(folder, allowed, forbidden):
    """Dependencies of one package against the table."""
    manifest = tomllib.loads((ROOT / folder / "Cargo.toml").read_text(encoding="utf-8"))
    own = manifest["package"]["name"]
    sections = {"dependencies": allowed, "build-dependencies": allowed}
    if folder in TEST_ARROWS:
        sections["dev-dependencies"] = allowed | TEST_ARROWS[folder]
    for section, fine in sections.items():
        used = set(manifest.get(section, {}))
        for other in sorted(used):
            if re.fullmatch(r"peerglass(-\w+)?", other) and other not in fine and other != own:
                yield f"{folder}/Cargo.toml: must not use {other}"
        if section != "dev-dependencies":
            for other in sorted(used & forbidden):
                yield f"{folder}/Cargo.toml: must not use {other}"


def unlisted_packages():
    """A new package needs a row in the table."""
    workspace = tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))["workspace"]
    for member in workspace["members"]:
        if member not in ARROWS:
            yield f"{member}: a package without a row in ARROWS of {Path(__file__).name}"


def main():
    findings = list(unlisted_packages())
    count = 0
    for path in sources():
        count += 1
        findings.extend(file_findings(path))
    for folder, (allowed, forbidden) in ARROWS.items():
        findings.extend(arrow_findings(folder, allowed, forbidden))
    readme = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    if len(readme) >= README_LINES_MAX:
        findings.append(f"README.md: {len(readme)} lines, under {README_LINES_MAX} wanted")
    for finding in findings:
        print(f"style: {finding}")
    if not findings:
        print(f"style: {count} files, nothing to say")
    return bool(findings)


if __name__ == "__main__":
    sys.exit(main())
