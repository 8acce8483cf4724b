from pipeline.config import TaskConfig


def test_fields_are_mapped_one_by_one_and_the_rest_keep_their_names() -> None:
    assert TaskConfig(name="t", kind="classification").columns == {"text": "text", "label": "label"}
    mapped = TaskConfig(name="t", kind="classification", fields={"text": "message"})
    assert mapped.columns == {"text": "message", "label": "label"}
    pair = TaskConfig(name="t", kind="classification", fields={"text_pair": "context"})
    assert pair.columns == {"text": "text", "text_pair": "context", "label": "label"}
