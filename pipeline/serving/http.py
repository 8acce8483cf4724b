"""The side of the clients: paths, bodies and answers of HTTP, by FastAPI."""

import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.exceptions import HTTPException

import pipeline
from pipeline.core.data.readers.objects import single
from pipeline.errors import fault
from pipeline.serving.bodies import bad, unreadable
from pipeline.serving.front import Front, Question, Said, described
from pipeline.serving.limits import Gate
from pipeline.serving.page import page
from pipeline.serving.state import Problem

_log = logging.getLogger(__name__)

Inputs = Annotated[
    Any,
    Field(
        description="A text; an object with the fields of the task, such as question and context; or a list of them.",
        examples=["I loved every minute of it."],
    ),
]
Parameters = Annotated[
    dict[str, Any] | None,
    Field(description="`top_k`, of a task that ranks labels or options.", examples=[{"top_k": 1}]),
]


class Prediction(BaseModel):
    """What one task is asked."""

    model_config = ConfigDict(extra="forbid")
    inputs: Inputs
    parameters: Parameters = None


class Asked(Prediction):
    """A question in a list of them."""

    task: str = Field(description="Registered name, as GET /v1/tasks lists it.", examples=["sentiment"])
    version: int | None = Field(default=None, description="One that is resident; the champion where it is left out.")


class Refusal(BaseModel):
    """Why there is no answer."""

    error: str
    error_type: str


_ONE, _MANY = TypeAdapter(Prediction), TypeAdapter(list[Asked])
_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal, "description": says}
    for status, says in {
        401: "The token is missing or wrong",
        404: "No such task, or no such version of it",
        413: "The body, its inputs or one of them is too large",
        422: "The body or an input cannot be understood",
        429: "So much is waiting that no more is taken; Retry-After says for how long",
        503: "The task cannot be served, or not now",
        504: "There was no answer in time",
    }.items()
}


def application(
    front: Front,
    refresh: Callable[[], Awaitable[str]],
    metrics: Callable[[], Awaitable[str]],
    *,
    token_digest: str = "",
    lifespan: Any = None,
) -> FastAPI:
    """Make the application.

    Args:
        front: Answers questions.
        refresh: Has the registry looked at now; returns why it does not answer, empty where it does.
        metrics: The metrics of all processes, as text.
        token_digest: `limits.digest_of` the token that clients have to send; empty: none.
        lifespan: FastAPI's own.
    """
    app = FastAPI(
        title="Adapters",
        version=pipeline.__version__,
        description="Champions of many tasks on one resident checkpoint. Answers have the shapes of Hugging Face's "
        "inference API, and name the version that gave them.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.add_middleware(Gate, max_body_bytes=front.limits.max_body_bytes, token_digest=token_digest)
    _errors(app)

    async def predicted(request: Request, name: str, version: int | None) -> Response:
        body = await _body(request, _ONE)
        if isinstance(body, Problem):
            return refusal(body)
        (said,) = await front.answer(
            [Question(task=name, inputs=body.inputs, parameters=body.parameters, version=version)]
        )
        if said.problem is not None:
            return refusal(said.problem)
        headers = {"X-Adapter-Version": str(said.version)}
        if said.truncated:
            headers["X-Truncated"] = ",".join(map(str, said.truncated))
        return JSONResponse(said.outputs, headers=headers)

    one = {"requestBody": _body_schema(Prediction)}
    many = {"requestBody": _body_schema(Asked, many=True)}

    @app.post("/v1/tasks/{name}/predict", responses=_REFUSALS, openapi_extra=one)
    async def predict(request: Request, name: str) -> Response:
        """The champion of a task answers one input, or a list of them."""
        return await predicted(request, name, None)

    @app.post("/v1/tasks/{name}/versions/{n}/predict", responses=_REFUSALS, openapi_extra=one)
    async def predict_version(request: Request, name: str, n: int) -> Response:
        """A version of a task answers: its champion, challenger, or the champion before."""
        return await predicted(request, name, n)

    @app.post("/v1/predict", responses=_REFUSALS, openapi_extra=many)
    async def predict_many(request: Request) -> Response:
        """Questions of any tasks, answered together: a list of answers, each with its version or its error."""
        body = await _body(request, _MANY)
        if isinstance(body, Problem):
            return refusal(body)
        questions = [
            Question(
                task=one.task,
                inputs=one.inputs,
                parameters=one.parameters,
                version=one.version,
                where=f"[{number}].",
            )
            for number, one in enumerate(body)
        ]
        if not questions:
            return refusal(bad("bad_body", fault("body", "[]", "is empty", "Give at least one question")))
        said = await front.answer(questions)
        problems = [one.problem for one in said if one.problem is not None]
        if len(problems) == len(said) and len({one.status for one in problems}) == 1:
            return refusal(problems[0])  # so that a client that is to wait is told so
        return JSONResponse([_listed(question, one) for question, one in zip(questions, said, strict=True)])

    @app.get("/v1/tasks")
    async def tasks() -> Response:
        """All tasks: name, kind, labels, the version that answers, and why one does not."""
        return JSONResponse({"tasks": [described(one) for one in front.table.tasks.values()]})

    @app.post("/v1/refresh")
    async def refreshed() -> Response:
        """Look at the registry now, as the hook of a promotion may ask for; its body is not looked at."""
        why = await refresh()
        return JSONResponse({"registry": why or "answers"}, status_code=503 if why else 200)

    @app.get("/healthz", response_class=PlainTextResponse)
    async def healthz() -> str:
        """The ingress is alive."""
        return "ok"

    @app.get("/readyz")
    async def readyz() -> Response:
        """Whether questions are taken, for how many tasks, and whether the registry answers."""
        standings = front.table.tasks.values()
        unserved = sum(one.champion is None or bool(one.champion.reason) for one in standings)
        is_ready = front.is_ready and not front.table.is_draining
        registry = front.table.registry or ("is being read" if front.table.is_unread else "answers")
        told = {"ready": is_ready, "tasks": len(standings), "unserved": unserved, "registry": registry}
        return JSONResponse(told, status_code=200 if is_ready else 503)

    @app.get("/metrics", response_class=PlainTextResponse)
    async def prometheus() -> Response:
        """Metrics of all processes together, in Prometheus' text format."""
        return PlainTextResponse(await metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(page(app.openapi()))

    return app


def refusal(problem: Problem) -> Response:
    """A problem as it is answered."""
    headers = {} if problem.retry_after_s is None else {"Retry-After": str(problem.retry_after_s)}
    told = {"error": problem.error, "error_type": problem.error_type}
    return JSONResponse(told, status_code=problem.status, headers=headers)


def _listed(question: Question, said: Said) -> dict[str, Any]:
    if said.problem is not None:
        why = {"error": said.problem.error, "error_type": said.problem.error_type, "status": said.problem.status}
        return {"task": question.task, **why}
    more = {"truncated": list(said.truncated)} if said.truncated else {}
    return {"task": question.task, "version": said.version, "outputs": said.outputs, **more}


async def _body(request: Request, adapter: TypeAdapter[Any]) -> Any:
    """The body as it is typed, or what is wrong with it; its Content-Type is not looked at, for curl's own is none."""
    remedy = 'Send JSON such as {"inputs": "..."}' if adapter is _ONE else 'Send [{"task": "...", "inputs": "..."}]'
    try:
        values = json.loads(await request.body(), object_pairs_hook=single)
    except RecursionError:
        return bad("bad_body", fault("body", "", "is nested too deep", remedy))
    except ValueError as error:
        return bad("bad_body", fault("body", "", f"is no JSON ({' '.join(str(error).split())[:100]})", remedy))
    if rule := unreadable(values):
        return bad("bad_body", fault("body", "", rule, remedy))
    try:
        return adapter.validate_python(values)
    except ValidationError as error:
        return _mismatch(error.errors(include_url=False, include_input=False, include_context=False), remedy)


def _mismatch(errors: Sequence[Mapping[str, Any]], remedy: str) -> Problem:
    first = errors[0]
    where = ".".join(map(str, first["loc"])) or "body"
    more = f" (the first of {len(errors)})" if len(errors) > 1 else ""
    rule = f"{first['msg'][:1].lower()}{first['msg'][1:]}{more}"
    where = where[:100].encode(errors="replace").decode()
    return bad("bad_body", fault(where, "", rule, remedy))


def _body_schema(model: type[BaseModel], *, many: bool = False) -> dict[str, Any]:
    schema = model.model_json_schema()
    return {
        "required": True,
        "content": {
            "application/json": {"schema": {"type": "array", "items": schema, "minItems": 1} if many else schema}
        },
    }


def _errors(app: FastAPI) -> None:
    """Whatever goes wrong is told in the same shape, and never as a traceback."""

    @app.exception_handler(HTTPException)
    async def of_http(request: Request, error: HTTPException) -> Response:
        told = f"{request.method} {request.url.path[:100]}: {error.detail}. GET /docs lists what there is."
        answer = refusal(Problem(status=error.status_code, error_type="not_found", error=told))
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(RequestValidationError)
    async def of_path(request: Request, error: RequestValidationError) -> Response:
        return refusal(_mismatch(error.errors(), "Write the number of a version, as GET /v1/tasks shows it"))

    @app.exception_handler(Exception)
    async def of_ours(request: Request, error: Exception) -> Response:
        _log.error("A request failed", exc_info=error)
        told = "This is a defect of the service, not of the request; its log has more. Please report it."
        return refusal(Problem(status=500, error_type="internal", error=told))
