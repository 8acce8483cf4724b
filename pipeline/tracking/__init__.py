"""Runs, artifacts and champions in MLflow.

MLflow reads these when it is imported or when it sends a request, so they are set before any module of this package
imports it: it sends no usage data, leaves its log messages to the logging that the command configured, prints nothing
between our own lines, and sends each request once.
"""

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_CONFIGURE_LOGGING", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# Its HTTP client would repeat every request whose reply was lost, the one that makes a run too, which then is there
# twice; and for minutes, in which nobody can stop it. `outage` repeats what is recorded, and looks before it does.
os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
