"""From the names that a user writes to data sets: which tasks and domains there are, and their rows."""

import dataclasses
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from pipeline.config import DataConfig, TaskConfig
from pipeline.config.strict import nearest
from pipeline.config.task import mapped_faults
from pipeline.core.data import hub
from pipeline.core.data.readers import folder as files
from pipeline.core.data.rows import CUT, Dataset, Row, Source
from pipeline.core.data.sift import Kind, sift
from pipeline.core.data.splits import arrange
from pipeline.errors import ConfigError, DataError, Fault, Faults, fault

STARTER = Path(__file__).with_name("starter")
_NO_NAME = frozenset("/\\:%'\"`,*?<>|;$")
"""Characters that mean something in filters of MLflow, in its names of models, in shells, and in names of files."""
_NAME_BYTES = 100
"""The longest name of a task, and of a domain: both together are a file's name and a registered model's."""


def job_name(task: TaskConfig, domain: str) -> str:
    """Name a job as the user would: `sentiment/movies`."""
    return f"{task.name}/{domain}"


def registered_name(task: TaskConfig, domain: str) -> str:
    """Name the registered model: `sentiment` for the default domain, else `sentiment.movies`."""
    return task.name if domain == task.default_domain else f"{task.name}.{domain}"


def domains(task: TaskConfig, data: DataConfig) -> list[str]:
    """List the domains of the task that the source has.

    Raises:
        DataError: The source has none, or is not there.
    """
    if data.source == "hub" and not task.hub:
        rule = f"has no data set for {task.name}: conf/task/{task.name}.yaml has no `hub`"
        remedy = "Add one there (`hub: {default: {id: owner/name}}`), or give files by DATA=<dir>"
        raise DataError(fault("DATA", "hub", rule, remedy))
    return sorted(task.hub if data.source == "hub" else _folders(task, data))


def resolve(patterns: list[str], tasks: Mapping[str, TaskConfig], data: DataConfig) -> list[tuple[TaskConfig, str]]:
    """Turn `sentiment` (its default domain), `sentiment/movies` and `sentiment/*` into tasks and domains.

    Raises:
        UserError: With a fault for every pattern that names no task or domain, and for every name that cannot be that
            of a folder, of a registered model and in a filter of MLflow, or would be another one's there.
    """
    wanted = [pattern.strip() for pattern in patterns if pattern.strip()]
    if not wanted:
        remedy = f"Set TASKS to one or more of {', '.join(sorted(tasks))}, separated by commas"
        raise ConfigError(fault("TASKS", "", "is empty: there is nothing to train", remedy))
    jobs: dict[str, tuple[TaskConfig, str]] = {}
    faults = Faults()
    for pattern in wanted:
        with faults.gathered():
            for task, domain in _expand(pattern, tasks, data):
                jobs[job_name(task, domain)] = (task, domain)
    faults.raise_any()
    _check_names(jobs, tasks)
    return list(jobs.values())


def _check_names(jobs: Mapping[str, tuple[TaskConfig, str]], tasks: Mapping[str, TaskConfig]) -> None:
    """Refuse what later could be no name, or would be two things' name: seen here, before anything is trained."""
    faults = []
    named = {"task": dict.fromkeys(task.name for task, _ in jobs.values())}
    named["domain"] = dict.fromkeys(domain for _, domain in jobs.values())
    for what, names in named.items():
        for name in names:
            unfit = [one for one in name if one in _NO_NAME or (unicodedata.category(one)[0] in "CZ" and one != " ")]
            unfit += [end for end in (name[:1], name[-1:]) if end in ("", " ", ".")]
            if unfit or len(name.encode()) > _NAME_BYTES:
                why = f"it has {unfit[0]!r}" if unfit and unfit[0] else f"it is not 1 to {_NAME_BYTES} bytes long"
                why += ", and at an end no blank and no dot may be" if unfit and unfit[0] in (" ", ".") else ""
                rule = f"can be no name of a {what}: {why}"
                faults.append(
                    fault("TASKS", name, rule, "Rename its file or folder, such as to letters, digits, _ and -")
                )
    owners: dict[str, str] = {}
    for job, (task, domain) in jobs.items():
        folder, model = job.replace("/", "."), registered_name(task, domain)
        others = [owners.get(f"folder {folder}"), owners.get(f"model {model}")]
        others += [name for name in tasks if name == model and name != task.name]
        if other := next(filter(None, others), None):
            rule = f"would be registered, or kept, under the name of {other}: `{model}`"
            faults.append(fault("TASKS", job, rule, "Rename one of the two"))
        owners |= {f"folder {folder}": job, f"model {model}": job}
    if faults:
        raise ConfigError(faults)


def split_paths(jobs: Sequence[tuple[TaskConfig, str]], data: DataConfig) -> Iterator[Path]:
    """The files that `load` reads of the jobs, below the folder that `data` names; of all tasks where none is given."""
    root = _root(data).resolve()
    folders = [_folders(task, data)[domain] for task, domain in jobs]
    if not jobs:
        folders = [folder for task in _task_folders(root) for folder in _domain_folders(root / task).values()]
    for folder in dict.fromkeys(root / folder.relative_to(_root(data)) if jobs else folder for folder in folders):
        for paths in files.split_files(folder).values():
            yield from paths


def load(
    task: TaskConfig, domain: str, data: DataConfig, *, kind: Kind, cut: int = CUT, trained: Collection[str] = ()
) -> Dataset:
    """Read the three splits of one domain; those that are missing are cut off train.

    Args:
        task: The task.
        domain: Of it.
        data: Where its rows come from, and which are left out.
        kind: What its rows mean.
        cut: Version of the rule by which splits are cut.
        trained: Digests of rows that a registered version was trained on: no cut takes them.

    Raises:
        DataError: With every fault of every split.
    """
    source = _open(task, domain, data)
    own = task.hub[domain].bad_rows if data.source == "hub" else "error"
    faults: list[Fault] = []
    notes = list(source.notes)
    found: dict[str, list[Row]] = {}
    for name, split in source.splits.items():
        sifted = sift(name, split, task, kind, data, data.bad_rows or own)
        faults += sifted.faults
        notes += sifted.notes
        if sifted.hidden:
            continue
        found[name] = sifted.rows
        if not sifted.rows and not sifted.faults:
            otherwise = "" if name == "train" else ", or remove the split: it is then cut off train"
            faults.append(fault(split.where, "", "has no rows", f"Add rows{otherwise}"))
    if faults:
        raise DataError(faults)
    labels_of = kind.labels_of if kind.has_labels else None
    splits, overlap, said = arrange(found, data, job_name(task, domain), cut=cut, labels_of=labels_of, trained=trained)
    return Dataset(
        task=task.name,
        domain=domain,
        source=data.source,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        overlap=overlap,
        notes=(*notes, *said),
        cut=cut,
        max_unseen=data.max_unseen,
    )


def _expand(pattern: str, tasks: Mapping[str, TaskConfig], data: DataConfig) -> list[tuple[TaskConfig, str]]:
    name, slash, domain = pattern.partition("/")
    if name not in tasks:
        remedy = nearest(name, list(tasks))
        if data.source != "hub" and name in _task_folders(_root(data)):
            remedy = f"Its data is there: describe it in conf/task/{name}.yaml, or in <dir>/{name}.yaml by CONF=<dir>"
        raise ConfigError(fault("TASKS", name, "is no known task", remedy))
    task = tasks[name]
    there = domains(task, data)
    if not slash:
        return [(task, _default(task, there))]
    if domain == "*":
        return [(task, one) for one in there]
    _require(task, domain, there, data)
    return [(task, domain)]


def _require(task: TaskConfig, domain: str, there: list[str], data: DataConfig) -> None:
    if domain not in there:
        remedy = f"Use one of: {', '.join(job_name(task, one) for one in there)}"
        raise ConfigError(fault("TASKS", job_name(task, domain), f"is not in the data source {data.source}", remedy))


def _default(task: TaskConfig, there: list[str]) -> str:
    """Choose the domain that the bare task name means: the default, else the only one."""
    if task.default_domain in there:
        return task.default_domain
    if len(there) == 1:
        return there[0]
    rule = f"could be any of {', '.join(there)}: the default domain `{task.default_domain}` is not among them"
    remedy = f"Write {job_name(task, there[0])}, for instance, or {job_name(task, '*')} for all"
    raise ConfigError(fault("TASKS", task.name, rule, remedy))


def _folders(task: TaskConfig, data: DataConfig) -> dict[str, Path]:
    """Map each domain of the task to its folder; files right in the task's folder are the default domain."""
    root = _root(data)
    there = _task_folders(root)
    name = task.rows or task.name
    if name not in there:
        folder = root / name
        rule = f"has no task `{name}` ({root.name}/{name} holds no train, validation or test file)"
        remedy = f"Use one of its tasks ({', '.join(there)})" if there else f"Put a train file into {root.name}/{name}/"
        remedy += ", or give DATA=<dir> or DATA=hub"
        if folder.is_dir() and any(folder.iterdir()):
            lacks = f"no file in {root.name}/{name} is called train (there: {files.listed(folder)})"
            rule = f"has no task `{name}`: {lacks}"
            remedy = f"Call the file to learn from train, such as {name}/train.csv; the others can be cut off it"
            if other := files.unread(folder, "train"):
                rule = f"has no task `{name}`: {other.relative_to(root)} is in no format that is read"
                if other.is_dir():
                    rule = f"has no task `{name}`: {other.relative_to(root)}/ holds nothing that is read"
                remedy = f"Write it as one of {files.formats()}"
        elif loose := [path.name for paths in files.split_files(root).values() for path in paths]:
            others = f", or use one of its tasks ({', '.join(there)})" if there else ""
            remedy = f"Put {loose[0]} into {root.name}/{name}/{others}"
        raise DataError(fault("DATA", data.source, rule, remedy))
    found = _domain_folders(root / name)
    own = found.pop("", None)
    if own is not None:
        if task.default_domain in found:
            rule = f"holds {name} twice: in the folder itself and in {task.default_domain}/"
            raise DataError(fault(own, "", rule, "Move one of the two away"))
        found[task.default_domain] = own
    return found


def _task_folders(root: Path) -> list[str]:
    return [folder.name for folder in sorted(root.iterdir()) if folder.is_dir() and _domain_folders(folder)]


def _domain_folders(folder: Path) -> dict[str, Path]:
    """Map the name of each subfolder that holds split files to it; the folder itself is ``."""
    found = {"": folder} if files.split_files(folder) else {}
    for inner in sorted(folder.iterdir()):
        if inner.is_dir() and not files.is_split_folder(inner) and files.split_files(inner):
            found[inner.name] = inner
    return found


def _root(data: DataConfig) -> Path:
    if data.source == "starter":
        return STARTER
    root = Path(data.source).expanduser()
    if not root.is_dir():
        remedy = "Give a folder that holds <task>/train.jsonl, or `starter` (shipped), or `hub`"
        raise DataError(fault("DATA", data.source, "is no folder", remedy))
    return root


def _open(task: TaskConfig, domain: str, data: DataConfig) -> Source:
    _require(task, domain, domains(task, data), data)
    if faults := list(mapped_faults(data.columns, task)):
        raise ConfigError(faults)
    if data.source == "hub":
        return hub.open_dataset(task, domain, data)
    if data.source == "starter":  # its rows have the canonical names, whatever the user's files call them
        task = dataclasses.replace(task, columns={name: name for name in task.field_names})
    return files.open_folder(_folders(task, data)[domain], task, data)
