"""Trials on Ray: what is tried, what goes on, and where it runs.

Ray and Tune read these when they are first imported, and the processes that Ray starts inherit them.
"""

import os

for _name, _value in {
    "RAY_ENABLE_ZERO_COPY_TORCH_TENSORS": "1",  # one checkpoint a node, mapped into every trial
    "RAY_AIR_NEW_OUTPUT": "0",  # whose silence prints a table all the same
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths mean the same in a trial as in the command
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # our sinks record the trials
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # pipeline.cluster.experiment has its own
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",  # sweeps resume from their trials' folders, not from Tune's state
}.items():
    os.environ[_name] = _value
