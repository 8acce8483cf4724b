"""What is one thing about a file is told once."""

from pipeline.errors import DataError, TrackingError, disk_full, fault


def test_faults_of_one_file_by_one_rule_are_told_as_one_with_their_number() -> None:
    rows = [
        fault(f"a.csv:{line}", f"B-{line}", f"(tag {line}, of 'x{line}') is no BIO tag", "Mend it") for line in (3, 5)
    ]
    others = [
        fault("b.csv:3", "B-1", "(tag 1, of 'y') is no BIO tag", "Mend it"),
        fault("a.csv:4", "", "has no field `text` (it has: a, b)", "Add it"),
        fault("a.csv:6", "", "has no field `label` (it has: a, b)", "Add it"),
        fault("a.csv:7", "", "has no field `text` (it has: c)", "Add it"),
        fault("engine.epochs", 0, "must be above 0", "Raise it"),
        fault("search.trials", 0, "must be above 0", "Raise it"),
    ]
    error = DataError([rows[0], *others, rows[1]])
    assert str(error).splitlines() == [
        "a.csv:3: 'B-3' (tag 3, of 'x3') is no BIO tag (the first of 2). Mend it.",
        "b.csv:3: 'B-1' (tag 1, of 'y') is no BIO tag. Mend it.",
        "a.csv:4: has no field `text` (it has: a, b) (the first of 2). Add it.",
        "a.csv:6: has no field `label` (it has: a, b). Add it.",
        "engine.epochs: '0' must be above 0. Raise it.",
        "search.trials: '0' must be above 0. Raise it.",
    ]
    assert error.faults == (rows[0], *others, rows[1])


def test_of_more_than_twenty_the_rest_is_counted() -> None:
    lines = str(DataError([fault(f"key{one}", "", "is missing", "Set it") for one in range(25)])).splitlines()
    assert (len(lines), lines[-1]) == (21, "... and 5 more")


def test_a_full_disk_is_told_with_what_was_written() -> None:
    said = disk_full(OSError(28, "No space left on device", "/runs/x/log.txt"))
    assert said == "Nothing can be written any more (No space left on device: /runs/x/log.txt). Make room there"
    unnamed = disk_full(OSError(28, "No space left on device"), "/runs/x")
    assert unnamed == "Nothing can be written any more (No space left on device: /runs/x). Make room there"
    try:
        try:
            raise RuntimeError("(sqlite3.OperationalError) database or disk is full")
        except RuntimeError as error:
            raise TrackingError("the store does not take it") from error
    except TrackingError as error:
        assert "(No space left on device: the tracking store)" in disk_full(error)
    assert disk_full(OSError(13, "Permission denied", "x")) == disk_full(ValueError("x")) == ""
