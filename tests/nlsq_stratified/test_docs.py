"""The Python of the guide for users of NLSQ runs as it stands, one block after the other."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "from-nlsq.md"


def test_from_nlsq(capsys):
    blocks = re.findall(
        r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.M | re.S
    )
    assert len(blocks) > 10
    names = {"__name__": "from_nlsq"}
    for block in blocks:
        exec(block, names)
    printed = capsys.readouterr().out
    assert "False stopped after 2 evaluations without converging inf" in printed
    assert "no point depends on parameter b at [0.35" in printed
