import pytest

from pipeline.core.data.tags import scheme_of, to_bio, write_as_bio


@pytest.mark.parametrize(
    ("tags", "scheme", "bio"),
    [
        ("B-A I-A O B-A B-A", "", "B-A I-A O B-A B-A"),
        ("O O", "", "O O"),
        ("I-A I-A O I-B B-B I-A", "IOB1", "B-A I-A O B-B B-B B-A"),
        ("B-A E-A O S-A B-B I-B E-B", "IOBES", "B-A I-A O B-A B-B I-B I-B"),
        ("B-A L-A O U-A B-B I-B L-B", "BILOU", "B-A I-A O B-A B-B I-B I-B"),
        ("B-A M-A E-A S-B", "BMES", "B-A I-A I-A B-B"),
        ("O B-A O I-A", "", "O B-A O I-A"),  # damaged BIO: nothing is repaired
        ("B-A X-A E-A", "", "B-A X-A E-A"),
        ("I-first-name I-first-name", "IOB1", "B-first-name I-first-name"),
    ],
)
def test_schemes_are_known_and_written_as_bio(tags: str, scheme: str, bio: str) -> None:
    assert scheme_of([tags.split()]) == scheme
    row = {"tags": tags.split()}
    assert write_as_bio([{"tags": None}, {"tags": ["O", 3]}, row]) == scheme
    assert row["tags"] == bio.split()


def test_the_scheme_is_that_of_all_sentences() -> None:
    assert scheme_of([["O", "I-A"], ["I-A", "B-A"]]) == "IOB1"
    assert scheme_of([["O", "I-A"], ["O", "B-A"]]) == ""
    assert to_bio(["S-A"], "IOBES") == ["B-A"]
