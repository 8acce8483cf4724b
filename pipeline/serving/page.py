"""The OpenAPI page: what can be asked, and a form to ask it; it needs nothing from the internet."""

import html
import json
from collections.abc import Mapping
from typing import Any

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1d2733 }
section { border: 1px solid #d5dbe3; border-radius: 6px; padding: .2rem 1rem 1rem; margin: 1rem 0 }
code, pre, textarea, input { font: 13px/1.5 ui-monospace, monospace }
h2 code { font-size: 15px } .verb { color: #fff; background: #3d6a99; border-radius: 4px; padding: .1rem .5rem }
pre, textarea { background: #f5f7fa; border: 1px solid #d5dbe3; padding: .5rem; width: 100%; box-sizing: border-box }
pre { overflow: auto; max-height: 24rem; white-space: pre-wrap } td { padding: 0 1rem 0 0; vertical-align: top }
"""
_SCRIPT = """
const token = document.getElementById('token');
for (const form of document.querySelectorAll('form')) form.onsubmit = async event => {
  event.preventDefault();
  let path = form.dataset.path;
  for (const field of form.querySelectorAll('input'))
    path = path.replace('{' + field.name + '}', encodeURIComponent(field.value));
  const body = form.querySelector('textarea'), shown = form.querySelector('pre');
  const headers = token.value ? {Authorization: 'Bearer ' + token.value} : {};
  if (body) headers['Content-Type'] = 'application/json';
  shown.textContent = 'asking ...';
  let answer, text;
  try {
    answer = await fetch(path, {method: form.dataset.verb, headers, body: body ? body.value : undefined});
    text = await answer.text();
  } catch (error) {
    shown.textContent = 'no answer: the service cannot be reached (' + error.message + ')';
    return;
  }
  try { text = JSON.stringify(JSON.parse(text), null, 2) } catch {}
  const version = answer.headers.get('X-Adapter-Version');
  shown.textContent = answer.status + (version ? '   X-Adapter-Version: ' + version : '') + '\\n' + text;
};
"""
_EXAMPLES = {"array": [{"task": "sentiment", "inputs": "I loved every minute of it."}]}
_ONE = {"inputs": "I loved every minute of it."}


def page(schema: Mapping[str, Any]) -> str:
    """Write the page.

    Args:
        schema: Of OpenAPI.
    """
    sections = [
        _section(path, verb, operation) for path, verbs in schema["paths"].items() for verb, operation in verbs.items()
    ]
    info = schema["info"]
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><link rel=icon href='data:,'>"  # or /favicon.ico is asked for
        f"<title>{_text(info['title'])}</title><style>{_STYLE}</style>"
        f"<h1>{_text(info['title'])} {_text(info['version'])}</h1>"
        f"<p>{_text(info['description'])} The schema: <a href=/openapi.json>openapi.json</a>.</p>"
        f"<p>Token, if the service has one: <input id=token type=password></p>{''.join(sections)}"
        f"<script>{_SCRIPT}</script></html>"
    )


def _section(path: str, verb: str, operation: Mapping[str, Any]) -> str:
    fields = "".join(
        f"{one['name']} <input name={_text(one['name'])} required> "
        for one in operation.get("parameters", [])
        if one["in"] == "path"
    )
    body = ""
    if "requestBody" in operation:
        asked = operation["requestBody"]["content"]["application/json"]["schema"]
        example = _EXAMPLES.get(asked.get("type", ""), _ONE)
        body = f"<textarea rows=3>{_text(json.dumps(example))}</textarea>"
    answers = "".join(
        f"<tr><td>{_text(status)}<td>{_text(one['description'])}" for status, one in operation["responses"].items()
    )
    return (
        f"<section><h2><span class=verb>{verb.upper()}</span> <code>{_text(path)}</code></h2>"
        f"<p>{_text(operation.get('description', ''))}</p><table>{answers}</table>"
        f"<form data-path='{_text(path)}' data-verb={verb.upper()}>{fields}{body}"
        "<p><button>Ask</button></p><pre></pre></form></section>"
    )


def _text(value: object) -> str:
    return html.escape(str(value))
