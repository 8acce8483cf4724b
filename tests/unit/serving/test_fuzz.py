"""Bodies that nobody would write, against the OpenAPI schema: none of them may be answered by a 5xx."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from pipeline.serving.state import Table
from tests.unit.serving.clients import TABLE, app_of, front_of

served = Table(tasks={name: one for name, one in TABLE.tasks.items() if not any(v.reason for v in one.versions)})
app = app_of(front_of(table=served))
PATHS = [path for path, methods in app.openapi()["paths"].items() if "post" in methods]


@pytest.mark.parametrize("path", PATHS)
def test_no_body_is_answered_by_a_server_error(path: str) -> None:
    import schemathesis  # takes seconds, which whoever only collects the tests need not wait
    from schemathesis.checks import not_a_server_error

    operation = schemathesis.openapi.from_asgi("/openapi.json", app)[path]["POST"]

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
    @given(case=operation.as_strategy())
    def ask(case: Any) -> None:
        case.call_and_validate(checks=[not_a_server_error])

    ask()


def test_every_path_that_takes_a_body_is_asked() -> None:
    assert len(PATHS) == 4
