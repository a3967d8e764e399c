"""OpenAI's files, and batches of calls that are read from one and answered in another."""

import time
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

from ._exchange import Exchange, compact, json_object
from ._failures import ErrorAnswer
from ._multipart import parts_of
from ._provider import Handler
from ._text import Shelf

FILES_MAX = 1000
FILES_BYTES_MAX = 64 << 20
BATCHES_MAX = 1000

Value = Dict[str, Any]
# A request, and its number, to the value of its answer.
Answering = Callable[[Value, int], Value]


class File(NamedTuple):
    value: Value
    content: bytes


class Files:
    """/v1/files: what was uploaded, in memory; the oldest make room."""

    def __init__(self) -> None:
        self._shelf = Shelf(FILES_MAX, FILES_BYTES_MAX)
        self._count = 0

    def routes(self) -> Dict[str, Dict[str, Handler]]:
        return {
            "/v1/files": {"POST": self._upload, "GET": self._list},
            "/v1/files/{id}": {"GET": self._retrieve, "DELETE": self._delete},
            "/v1/files/{id}/content": {"GET": self._content},
        }

    def add(self, name: str, purpose: str, content: bytes) -> Value:
        self._count += 1
        value = {
            "id": f"file-{self._count:024x}",
            "object": "file",
            "bytes": len(content),
            "created_at": int(time.time()),
            "expires_at": None,
            "filename": name,
            "purpose": purpose,
            "status": "processed",
            "status_details": None,
        }
        self._shelf.put(f"file-{self._count:024x}", File(value, content), len(content))
        return value

    def get(self, identity: str) -> File:
        file: Any = self._shelf.get(identity)
        if file is None:
            raise ErrorAnswer(404, f"No such File object: {identity}", None, "id")
        found: File = file
        return found

    async def _upload(self, exchange: Exchange) -> None:
        parts = parts_of(exchange.header("content-type"), exchange.body)
        for name in ("file", "purpose"):
            if name not in parts:
                raise ErrorAnswer(400, f"'{name}' is a required property", None, name)
        file, purpose = parts["file"], parts["purpose"].content.decode("utf-8", "replace")
        await exchange.json(self.add(file.filename or "upload", purpose, file.content))

    async def _list(self, exchange: Exchange) -> None:
        purpose = exchange.query("purpose")
        values = [file.value for file in self._shelf.newest_first()]
        data = [value for value in values if purpose in ("", value["purpose"])]
        await exchange.json(_page(data, exchange))

    async def _retrieve(self, exchange: Exchange, identity: str) -> None:
        await exchange.json(self.get(identity).value)

    async def _content(self, exchange: Exchange, identity: str) -> None:
        await exchange.whole("application/octet-stream", self.get(identity).content)

    async def _delete(self, exchange: Exchange, identity: str) -> None:
        self.get(identity)
        self._shelf.take(identity)
        await exchange.json({"id": identity, "object": "file", "deleted": True})


class Batches:
    """/v1/batches: computed when they are made, and said to be done when they are asked for."""

    def __init__(self, files: Files, answering: Dict[str, Answering]) -> None:
        self._files = files
        self._answering = answering
        self._shelf = Shelf(BATCHES_MAX)
        self._count = 0

    def routes(self) -> Dict[str, Dict[str, Handler]]:
        return {
            "/v1/batches": {"POST": self._create, "GET": self._list},
            "/v1/batches/{id}": {"GET": self._retrieve},
            "/v1/batches/{id}/cancel": {"POST": self._cancel},
        }

    async def _create(self, exchange: Exchange) -> None:
        request = exchange.object()
        endpoint = str(request.get("endpoint"))
        if endpoint not in self._answering:
            raise ErrorAnswer(400, f"No batches for the endpoint '{endpoint}'.", None, "endpoint")
        file = self._files.get(str(request.get("input_file_id")))
        lines = [json_object(line) for line in file.content.splitlines() if line.strip()]
        self._count += 1
        batch: Value = {
            "id": f"batch_{self._count:024x}",
            "object": "batch",
            "endpoint": endpoint,
            "errors": None,
            "input_file_id": file.value["id"],
            "completion_window": request.get("completion_window"),
            "status": "validating",
            "output_file_id": None,
            "error_file_id": None,
            "created_at": int(time.time()),
            "metadata": request.get("metadata"),
            "request_counts": {"total": 0, "completed": 0, "failed": 0},
        }
        self._shelf.put(batch["id"], {**batch, **self._done(batch["id"], endpoint, lines)})
        await exchange.json(batch)

    def _done(self, identity: str, endpoint: str, lines: List[Value]) -> Value:
        """What is new of a batch when it has been computed."""
        answers = [self._line(endpoint, line, index) for index, line in enumerate(lines)]
        failed = sum(status != 200 for status, _ in answers)
        output = b"".join(compact(answer).encode() + b"\n" for _, answer in answers)
        result = self._files.add(f"{identity}_output.jsonl", "batch_output", output)
        counts = {"total": len(lines), "completed": len(lines) - failed, "failed": failed}
        return {
            "status": "completed",
            "output_file_id": result["id"],
            "completed_at": int(time.time()),
            "request_counts": counts,
        }

    def _line(self, endpoint: str, line: Value, index: int) -> Tuple[int, Value]:
        status, body = 200, line.get("body") or {}
        try:
            if not isinstance(body.get("model"), str):
                raise ErrorAnswer(400, "you must provide a model parameter")
            value = self._answering[endpoint](body, index)
        except ErrorAnswer as error:
            status = error.status
            value = {"error": {"message": error.message, "type": "invalid_request_error"}}
        response = {"status_code": status, "request_id": f"req_{index:024x}", "body": value}
        return status, {
            "id": f"batch_req_{index:024x}",
            "custom_id": line.get("custom_id"),
            "response": response,
            "error": None,
        }

    def _found(self, identity: str) -> Value:
        batch: Any = self._shelf.get(identity)
        if batch is None:
            raise ErrorAnswer(404, f"No batch found with id '{identity}'.")
        found: Value = batch
        return found

    async def _list(self, exchange: Exchange) -> None:
        await exchange.json(_page(self._shelf.newest_first(), exchange))

    async def _retrieve(self, exchange: Exchange, identity: str) -> None:
        await exchange.json(self._found(identity))

    async def _cancel(self, exchange: Exchange, identity: str) -> None:
        # It was done before anybody could cancel it.
        status = self._found(identity)["status"]
        raise ErrorAnswer(409, f"Cannot cancel a batch with status '{status}'.")


def _page(data: List[Value], exchange: Exchange) -> Value:
    """What is behind `after`, as much as `limit` says, newest first."""
    after, limit = exchange.query("after"), exchange.query("limit", "100")
    ids = [each["id"] for each in data]
    begin = ids.index(after) + 1 if after in ids else 0
    end = begin + (int(limit) if limit.isdigit() else 100)
    shown = data[begin:end]
    first, last = (shown[0]["id"], shown[-1]["id"]) if shown else (None, None)
    more = end < len(data)
    return {"object": "list", "data": shown, "first_id": first, "last_id": last, "has_more": more}
