"""Every setting, typed and documented; the YAML below `conf/` supplies the values.

Dataclasses only: no I/O, no framework. `faults()` states the rules that one value alone cannot break or keep;
`pipeline.config.strict.build` turns a mapping into one of these and reports every fault of it at once.
"""

from pipeline.config.drift import DriftConfig
from pipeline.config.gate import GateConfig
from pipeline.config.retrain import ChallengerConfig, Harder, HookConfig, RetrainConfig, recorded
from pipeline.config.search import Range, SearchConfig
from pipeline.config.sweep import ClusterConfig, CompareConfig, Contender, SweepConfig, TrackingConfig
from pipeline.config.task import FIELDS, METRICS, DataConfig, HubConfig, Kind, TaskConfig, signed
from pipeline.config.training import (
    METHOD_TRAITS,
    Activation,
    CheckpointConfig,
    EngineConfig,
    MethodConfig,
    MethodName,
    Pooling,
)

__all__ = [
    "FIELDS",
    "METHOD_TRAITS",
    "METRICS",
    "Activation",
    "ChallengerConfig",
    "CheckpointConfig",
    "ClusterConfig",
    "CompareConfig",
    "Contender",
    "DataConfig",
    "DriftConfig",
    "EngineConfig",
    "GateConfig",
    "Harder",
    "HookConfig",
    "HubConfig",
    "Kind",
    "MethodConfig",
    "MethodName",
    "Pooling",
    "Range",
    "RetrainConfig",
    "SearchConfig",
    "SweepConfig",
    "TaskConfig",
    "TrackingConfig",
    "recorded",
    "signed",
]
