"""The files of a version as an MLflow model: bundle, ledger, test, and what the model takes and gives."""

import dataclasses
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import mlflow.pyfunc
from mlflow.models import Model

from pipeline.core.data.ledger import Ledger, write_ledger
from pipeline.core.engine.bundle import Bundle
from pipeline.pyfunc import BUNDLE, LEDGER, ORIGIN
from pipeline.rules.card import Origin
from pipeline.tracking.signature import Exchange

_LOADER = "pipeline.pyfunc"
_LONGEST_ITEM = 400


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """What is kept of a version."""

    bundle: Bundle
    ledger: Ledger
    origin: Origin
    exchange: Exchange

    def save(self, folder: Path, run_id: str, model_id: str) -> Path:
        """Write the model into a new folder below `folder`, and return that."""
        data, model = folder / "data", folder / "model"
        shutil.copytree(self.bundle.folder, data / BUNDLE)
        write_ledger(data / LEDGER, self.ledger)
        (data / ORIGIN).write_text(json.dumps(dataclasses.asdict(self.origin), indent=2) + "\n", "utf-8")
        # Given, since MLflow would load the model in another process to find out.
        requirements = [f"{package}=={version}" for package, version in self.bundle.record.versions.items()]
        mlflow.pyfunc.save_model(
            model,
            loader_module=_LOADER,
            data_path=str(data),
            pip_requirements=requirements,
            mlflow_model=Model(run_id=run_id, model_id=model_id),
            signature=self.exchange.signature,
            input_example=[dict(self.exchange.inputs)],
        )
        return model

    def usage(self, uri: str, model_id: str, name: str) -> str:
        """Three lines of Python that load this version, whatever number and alias it has, and ask it something."""
        item = self.exchange.item
        if len(repr(item)) > _LONGEST_ITEM:
            item = "..." if isinstance(item, str) else dict.fromkeys(item, "...")
        return "\n".join(
            [
                "import mlflow",
                f"mlflow.set_tracking_uri({uri!r})",
                f'mlflow.pyfunc.load_model("models:/{model_id}").predict([{item!r}])  # or models:/{name}@champion',
            ]
        )
