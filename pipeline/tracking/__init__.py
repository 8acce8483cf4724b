"""Runs, artifacts and champions in MLflow.

MLflow reads these when it is imported, so they are set before any module of this package imports it: it sends
no usage data, and leaves its log messages to the logging that the command configured.
"""

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_CONFIGURE_LOGGING", "false")
