#!/usr/bin/env bash
# argilla 2.8.0, huggingface_hub 2.4.0, datasets 5.2.0: after `pip install argilla`, `import argilla` fails.
#
# argilla imports requests (in argilla/settings/_field.py) and does not declare it. It used to come with huggingface_hub or
# datasets, which argilla needs without an upper bound; the present versions of both use another HTTP client. So a new
# environment has no requests, and a machine that got it from something else shows nothing of this.
# Expected: requests among the requirements of argilla, so that what pip installs can be imported.
#
# Seen: ModuleNotFoundError: No module named 'requests'; after `pip install requests` the import works.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet argilla==2.8.0 huggingface_hub==2.4.0 datasets==5.2.0
cd "$folder"
import_it() {
    "$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import requires, version

needed = [requirement for requirement in requires("argilla") if "extra" not in requirement]
assert not any(requirement.startswith("requests") for requirement in needed), "requests is declared now"
try:
    import argilla
except ModuleNotFoundError as error:
    print("argilla", version("argilla"), "ModuleNotFoundError:", error)
else:
    print("argilla", argilla.__version__, "imported")
PYTHON
}
first=$(import_it)
"$folder/venv/bin/pip" install --quiet requests==2.34.2
second=$(import_it)
printf '%s\n' "$first" "$second"
[[ "$first" == *"ModuleNotFoundError: No module named 'requests'" ]] || { echo "argilla imports without requests"; exit 1; }
[[ "$second" == *"imported" ]] || { echo "argilla lacks more than requests"; exit 1; }
