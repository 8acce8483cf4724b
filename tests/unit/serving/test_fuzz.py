"""Bodies that nobody would write, against the OpenAPI schema: none of them may be answered by a 5xx."""

from typing import Any

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error

from pipeline.serving.state import Table
from tests.unit.serving.clients import TABLE, app_of, front_of

served = Table(tasks={name: one for name, one in TABLE.tasks.items() if not any(v.reason for v in one.versions)})
schema = schemathesis.openapi.from_asgi("/openapi.json", app_of(front_of(table=served)))


@schema.include(method="POST").parametrize()
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
def test_no_body_is_answered_by_a_server_error(case: Any) -> None:
    case.call_and_validate(checks=[not_a_server_error])
