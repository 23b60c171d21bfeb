"""What Hugging Face hosts or sends on to others, by the hub's own client.

The client finds out who runs a model, what it is called there and how that one wants a request; the messages are those
of OpenAI's API. The line is ours: the client's own would carry words and pictures along to wherever it is redirected.

Source: huggingface_hub 2.4, ``InferenceClient.chat_completion``; Hugging Face, "Inference Providers" (2026).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from anmok.calling import Server, events, refused, told
from anmok.errors import BadData, BadRequest, MissingDependency, Refused
from anmok.models.remote.openai import speech_over
from anmok.models.remote.places import Place
from anmok.models.remote.speaking import Speech

_ROUTER: Final = "https://router.huggingface.co"
_SETTINGS: Final = "choose one with a provider that you have enabled: huggingface.co/settings/inference-providers"


def speech(place: Place) -> Speech:
    """The hub's router, a provider, or an endpoint of one's own."""
    server = Server(place.address or _ROUTER, place.model, {}, place.key, place.remedy, place.silence)

    def send(body: dict[str, Any]) -> Iterator[Mapping[str, Any]]:
        return _sent(place, server, body)

    return speech_over(send, server.place, place.model)


def _sent(place: Place, server: Server, body: dict[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Chunks as they come.

    Raises:
        AnmokError: as the vendor's answer has it.
    """
    where: dict[str, Any] = {"base_url": place.address} if place.address else {"provider": place.provider or "auto"}
    wanted = {key: value for key, value in body.items() if key != "messages"}
    with _client(server, {**where, "token": place.key, "timeout": server.silence}) as client:
        chunks = _begun(server, lambda: client.chat_completion(body["messages"], model=place.model, **wanted))
        try:
            yield from chunks
        except (AttributeError, LookupError, TypeError, ValueError, RecursionError):
            raise BadData(f"{server.place}: an answer that is not of OpenAI's chat API") from None


def _client(server: Server, settings: Mapping[str, Any]) -> Any:
    """The hub's client on a line of ours."""
    try:
        from huggingface_hub import InferenceClient
    except ImportError:
        raise MissingDependency(
            "models that Hugging Face hosts need huggingface_hub 2: pip install 'anmok[remote]'"
        ) from None

    class Client(InferenceClient):
        def _inner_post(self, request_parameters: Any, *, stream: bool = False) -> Any:
            line = replace(server, address=request_parameters.url, headers=request_parameters.headers)
            chunks = self.exit_stack.enter_context(contextlib.closing(events(line, "", request_parameters.json)))
            return (f"data: {json.dumps(chunk)}" for chunk in chunks)

    return Client(**settings)


def _begun(server: Server, begin: Any) -> Iterator[Mapping[str, Any]]:
    """The chunks, once the client has found out who is to be asked.

    Raises:
        BadRequest: nobody that it knows runs the model.
        Refused: the hub cannot be asked.
    """
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    try:
        chunks: Iterator[Mapping[str, Any]] = _explained(server, begin())
    except HfHubHTTPError as error:  # where it asked the hub for the providers of a model
        response = error.response
        raise refused(server, response.status_code, str(error).encode()) from None
    except (httpx2.HTTPError, OSError) as error:
        raise Refused(f"{server.place}: no answer ({type(error).__name__}); is the hub up?", 5.0) from None
    except ValueError as error:
        raise _unsupported(told(server, str(error).encode())) from None
    return chunks


def _explained(server: Server, chunks: Iterator[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    try:
        yield from chunks
    except BadRequest as error:
        if "not supported" in str(error):
            raise _unsupported(str(error).partition("(")[2].removesuffix(")")) from None
        raise


def _unsupported(message: str) -> BadRequest:
    return BadRequest(f"Hugging Face does not run this model for you ({message}); {_SETTINGS}")
