"""The token is kept as a digest alone."""

from pipeline.serving.limits import digest_of


def test_of_a_token_only_a_digest_is_kept() -> None:
    assert digest_of("") == ""
    assert digest_of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
