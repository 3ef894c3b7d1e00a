#!/usr/bin/env bash
# Guess, written down first: Binder's builder solves `environment.yml` as conda does, so "python>=3.11,<3.12"
# gives a Python 3.11, as it does on a reader's machine.
# Found: repo2docker reads the Python of an environment.yml by a pattern of its own that knows "python=3.11" and no
# ranges. For a range it warns, and chooses its default, an older Python, for which it then takes its frozen base
# environment. The same file gives one Python on a laptop and another on Binder.
# Remedy: write "python=3.11".
# Output seen: jupyter-repo2docker 2026.4.0, "python>=3.11,<3.12" -> 3.10, "python=3.11" -> 3.11
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check jupyter-repo2docker==2026.4.0
mkdir "$folder/range" "$folder/exact"
printf 'name: book\ndependencies:\n  - python>=3.11,<3.12\n  - pip\n' > "$folder/range/environment.yml"
printf 'name: book\ndependencies:\n  - python=3.11\n  - pip\n' > "$folder/exact/environment.yml"
cat > "$folder/look.py" <<'PY'
import os
import sys

from repo2docker.buildpacks import CondaBuildPack

found = {}
for name in ("range", "exact"):
    os.chdir(os.path.join(sys.argv[1], name))
    found[name] = CondaBuildPack("base").python_version
print("python>=3.11,<3.12 ->", found["range"])
print("python=3.11        ->", found["exact"])
assert found == {"range": "3.10", "exact": "3.11"}, "this has changed"
PY
"$folder/venv/bin/python" "$folder/look.py" "$folder"
