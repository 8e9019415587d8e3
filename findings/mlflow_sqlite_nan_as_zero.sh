#!/usr/bin/env bash
# mlflow 3.17.2: the default store (SQLite) keeps a NaN as the value 0 and an infinity as the largest finite float.
#
# Without a server, runs now go to `mlflow.db` in the working directory. In its tables `metrics` and `latest_metrics` a NaN
# is a row with value 0.0 and is_nan 1, and ±inf is ±1.7976931348623157e+308 with no mark at all. A query that reads the
# values and not is_nan finds that a diverged run has the best possible loss. The client restores NaN from is_nan, but
# the infinity is lost for good: it also returns the largest finite float.
# Expected: NULL for a NaN (SQLite can store no NaN), and the infinity as it is (SQLite stores infinities).
#
# Seen: 0.5, nan, inf logged; stored 0.5, 0.0 (is_nan 1), 1.7976931348623157e+308 (is_nan 0); the client returns 0.5, nan,
# 1.7976931348623157e+308, and `min(value)` is 0.0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet mlflow==3.17.2
cd "$folder"
env -u MLFLOW_TRACKING_URI MLFLOW_DISABLE_TELEMETRY=true MLFLOW_LOGGING_LEVEL=ERROR "$folder/venv/bin/python" - <<'PYTHON'
import math
import sqlite3
import sys

import mlflow

largest = sys.float_info.max
with mlflow.start_run() as run:
    for step, loss in enumerate([0.5, math.nan, math.inf]):
        mlflow.log_metric("loss", loss, step=step)
with sqlite3.connect("mlflow.db") as database:
    stored = database.execute("SELECT value, is_nan FROM metrics ORDER BY step").fetchall()
    smallest = database.execute("SELECT min(value) FROM metrics").fetchone()[0]
    infinity = database.execute("SELECT ?", [math.inf]).fetchone()[0]
history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss")
returned = [metric.value for metric in sorted(history, key=lambda metric: metric.step)]
print("mlflow", mlflow.__version__, "stored", stored, "smallest", smallest, "returned", returned)
assert infinity == math.inf, "SQLite itself keeps no infinity"
assert stored == [(0.5, 0), (0.0, 1), (largest, 0)], "NaN and infinity are stored in another way"
assert smallest == 0.0, "NaN is no longer the smallest loss"
assert returned[0] == 0.5 and math.isnan(returned[1]) and returned[2] == largest, "the client returns other values"
PYTHON
