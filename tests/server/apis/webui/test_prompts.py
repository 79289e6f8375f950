import pytest

from inpaintrt_server.apis.webui.mapping import plain_prompt
from inpaintrt_server.http.refusals import FieldError


@pytest.mark.parametrize(
    ("prompt", "read"),
    [
        ("a red balloon, best quality", "a red balloon, best quality"),
        (r"a \(red\) \[balloon\] \\o/", r"a (red) [balloon] \o/"),
        ("hand and hand, command: 5 < 6", "hand and hand, command: 5 < 6"),
        ("a :) and a ]", "a :) and a ]"),
        ("", ""),
    ],
)
def test_plain_prompts_pass(prompt: str, read: str) -> None:
    assert plain_prompt(prompt, "prompt", weights=True) == read


@pytest.mark.parametrize(
    ("prompt", "named"),
    [
        ("(red:1.2) balloon", "(red:1.2)"),
        ("((red)) balloon", "(red)"),
        ("a [red] balloon", "[red]"),
        ("a [red:blue:0.5] balloon", "[red:blue:0.5]"),
        ("a [red|blue] balloon", "[red|blue]"),
        ("a balloon AND a house", "AND"),
        ("a balloon BREAK a house", "BREAK"),
        ("a balloon <lora:skies:0.8>", "<lora:skies:0.8>"),
    ],
)
def test_the_prompt_language_is_refused(prompt: str, named: str) -> None:
    with pytest.raises(FieldError) as caught:
        plain_prompt(prompt, "negative_prompt", weights=True)
    assert caught.value.field == "negative_prompt"
    assert caught.value.received == named
    assert "emphasis" in str(caught.value.hint)


def test_without_emphasis_brackets_are_letters_but_the_rest_of_the_language_stays() -> None:
    assert plain_prompt(r"a (red) [blue] \(x\)", "prompt", weights=False) == r"a (red) [blue] \(x\)"
    with pytest.raises(FieldError):
        plain_prompt("a [red|blue] balloon", "prompt", weights=False)
