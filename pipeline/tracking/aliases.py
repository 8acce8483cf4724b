"""What is registered, as a service asks for it again and again: the aliases of all names, and a version's bundle."""

from pathlib import Path

from pipeline.tracking.lookup import bundle_folder
from pipeline.tracking.store import Store, every, store_errors


def aliases(store: Store) -> dict[str, dict[str, int]]:
    """Registered name -> alias -> version, of every task; nothing is written."""
    with store_errors(store.uri):
        models = list(every(store.client.search_registered_models))
    return {
        str(model.name): {alias: int(number) for alias, number in model.aliases.items()}
        for model in models
        if "task" in model.tags and model.aliases  # else somebody else's model
    }


def bundle_of(store: Store, name: str, version: int) -> Path:
    """Folder of a version's bundle; from a server it is downloaded, for as long as this process lives."""
    with store_errors(store.uri):
        return bundle_folder(store, store.client.get_model_version(name, str(version)))
