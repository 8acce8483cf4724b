"""A bundle as an MLflow model: `mlflow.pyfunc.load_model("models:/sentiment@champion").predict(["..."])`.

MLflow imports this module by the name that the logged model carries and calls `_load_pyfunc`. So the model
holds data alone, no code and no pickle, and is read by the version of the package that is installed. Since every
registered version names it, this module never moves.
"""

from pathlib import Path
from typing import Any, final

BUNDLE, LEDGER = "bundle", "ledger"
"""Folders inside the model's data: the bundle, and what the version has seen (`pipeline.core.data.ledger`)."""
ORIGIN = "origin.json"
"""File beside them: how the version was tested (`pipeline.rules.card`); models of before have none."""


@final
class BundleModel:
    """Answers like `make predict`."""

    def __init__(self, folder: Path) -> None:
        """Open the checkpoint that the bundle at `folder` was trained on."""
        # Here: whoever asks for the names above, as `make status` does, does without torch.
        from pipeline.core.adapters.checkpoint import load_checkpoint, open_checkpoint
        from pipeline.core.bank.predictor import Predictor
        from pipeline.core.engine.bundle import read_bundle

        self._bundle = read_bundle(folder)
        self._predictor = Predictor(load_checkpoint(open_checkpoint(self._bundle.record.checkpoint)))

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Answer one item or many.

        Args:
            model_input: A text or a mapping with the task's fields; a list, array or pandas Series of them;
                or a DataFrame, of which one column counts as its values and several as a mapping a row.
            params: Part of MLflow's interface; there are none.
        """
        return self._predictor.predict(self._bundle, items_of(model_input))


def items_of(model_input: Any) -> list[Any]:
    """Turn what MLflow's callers pass into a list of items."""
    if isinstance(model_input, str | dict):
        return [model_input]
    if hasattr(model_input, "columns"):
        if not len(model_input):  # which may have no columns either
            return []
        if len(model_input.columns) > 1:
            return list(model_input.to_dict("records"))
        model_input = model_input.iloc[:, 0]
    return list(model_input.tolist() if hasattr(model_input, "tolist") else model_input)


def _load_pyfunc(data_path: str) -> BundleModel:
    """MLflow's entry: `data_path` is the folder that `tracking.registry` logged."""
    return BundleModel(Path(data_path) / BUNDLE)
