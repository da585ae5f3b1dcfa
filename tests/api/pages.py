"""Pages as they come from the server: what somebody reads on them, and what their scripts are given."""

import html
import json
import re
from typing import Any

from fastapi.testclient import TestClient


def shown(client: TestClient, path: str, status: int = 200) -> str:
    """The text of a page, which is held to the policy."""
    answer = client.get(path)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert "style=" not in answer.text
    return answer.text


def words(page: str) -> str:
    """What somebody reads on a page."""
    body = re.sub(r"<script.*?</script>", "", page[page.index("<main") :], flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def given(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="given">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data
