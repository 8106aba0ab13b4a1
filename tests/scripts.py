"""What the tests of scripts under experiments/ share."""

import json


def written(out, name, scale="quick"):
    """NAME.json and NAME.md of a script, once all three of its files are there and whole."""
    assert (out / f"{name}.png").stat().st_size > 10_000
    text, numbers = ((out / f"{name}.{end}").read_text() for end in ("md", "json"))
    assert "nan" not in text
    assert "NaN" not in numbers
    found = json.loads(numbers)
    assert found["scale"] == scale
    return found, text
