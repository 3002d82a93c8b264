"""Makes `chat_templates.json`: what transformers makes of the conversations in `chats.py`.

    python tests/golden/make_chat_templates.py FOLDER     # in a Python with transformers

FOLDER holds templates (``*.jinja``), e.g. ``models/templates`` of llama.cpp's sources. Of those only hashes are kept:
of the template, and of each text; "refused" where transformers raises. The templates in `tests/golden/templates` are
the project's own, and their texts are kept.
"""

from __future__ import annotations

import hashlib
import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from chats import CASES, NOW, SPECIAL_TOKENS
from transformers.utils import chat_template_utils

HERE = Path(__file__).parent


class Clock(datetime):
    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        return datetime(*NOW)


def rendered(source: str, case: dict[str, Any]) -> str | None:
    options = {name: value for name, value in case.items() if name not in ("messages", "variables")}
    try:
        texts, _ = chat_template_utils.render_jinja_template(
            [json.loads(json.dumps(case["messages"]))],
            chat_template=source, **options, **SPECIAL_TOKENS, **case.get("variables", {}),
        )  # fmt: skip
    except Exception:
        return None
    return texts[0]


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def main(folder: str) -> None:
    chat_template_utils.datetime = Clock
    own: dict[str, Any] = {}
    for path in sorted((HERE / "templates").glob("*.jinja")):
        own[path.stem] = {name: rendered(path.read_text(), case) for name, case in CASES.items()}
    others: dict[str, Any] = {}
    for path in sorted(Path(folder).glob("*.jinja")):
        source = path.read_text(encoding="utf-8")
        texts = {name: rendered(source, case) for name, case in CASES.items()}
        hashes = {name: "refused" if text is None else digest(text) for name, text in texts.items()}
        others[digest(source)] = {"name": path.stem, **hashes}
    document = {"own": own, "others": others}
    (HERE / "chat_templates.json").write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
