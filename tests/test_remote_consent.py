"""Models that somebody else runs: nothing goes out unasked, keys go where they belong, and all the way through."""

from __future__ import annotations

import base64
import json
import logging
from pathlib import Path

import pytest

from anmok import Chat, Conversation, Text, cards
from anmok.catalogue.sources import RemoteSource
from anmok.errors import BadRequest, LicenceRequired, Unauthorized, Unsupported
from anmok.load import load, tiny
from anmok.models.remote import photos, places
from anmok.server.settings import Served, Settings
from battery import picture
from command_line import anmok as run
from command_line import fine
from remote_samples import ALL_DOORS, RED, SAID, facts, forget_keys
from remote_vendor import DOORS, GEMINI, HUGGINGFACE, KEY, OPENAI, Answer, Vendor, answer, opened, set_up, there_fixture  # noqa: F401  # a fixture
from serving import png, running, scene


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_keys(monkeypatch)


# Consent and keys -----------------------------------------------------------------------------------------


@ALL_DOORS
def test_nothing_goes_out_unasked(door: str, there: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up(monkeypatch, door, there.root)
    there.says(answer(door, ["Hm."]))
    with pytest.raises(LicenceRequired, match=f"leave this machine, .*--accept-licence remote:{door}"):
        load(f"{door}-chat")
    with pytest.raises(LicenceRequired):
        load(f"{door}-chat", accept_licences=["remote", "remote:others"])
    assert opened(door).memory_bytes == 0  # to load is not to ask
    assert there.asked == []
    monkeypatch.setenv("ANMOK_ACCEPT_LICENCES", f"remote:{door}")
    assert load(f"{door}-chat").run([SAID], Chat())[0].text == "Hm."
    assert len(there.asked) == 1


def test_each_card_of_somebody_else_wants_consent_of_its_own() -> None:
    found = [one for one in cards() if isinstance(one.source, RemoteSource)]
    assert [one.name for one in found] == ["openai-chat", "gemini-chat", "huggingface-chat"]
    assert not any(one.licence.is_accepted_by_default for one in found)
    assert len({one.licence.id for one in found}) == 3
    assert all("Sends words and pictures" in one.summary for one in found)


HOMES = {
    OPENAI: ("OPENAI_API_KEY", "https://api.openai.com/v1", "https://api.openai.com.evil.example/v1"),
    GEMINI: ("GOOGLE_API_KEY", "https://generativelanguage.googleapis.com/v1beta", "https://googleapis.com/v1beta"),
    HUGGINGFACE: ("HF_TOKEN", "https://x1.eu.endpoints.huggingface.cloud", "https://huggingface.cloud.evil.example"),
}


@ALL_DOORS
def test_a_vendors_key_goes_to_the_vendor_alone(door: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variable, home, elsewhere = HOMES[door]
    prefix = f"ANMOK_{door.upper()}"
    monkeypatch.setenv(f"{prefix}_MODEL", "eyes-1")
    with pytest.raises(Unauthorized, match=r"no key for .*: set [A-Z_]+$"):
        places.found(door)
    monkeypatch.setenv(variable, "hf_theirs")
    assert places.found(door).key == "hf_theirs"
    monkeypatch.setenv(f"{prefix}_BASE_URL", home)
    assert places.found(door).key == "hf_theirs"
    for address in (elsewhere, home.replace("https", "http"), "http://127.0.0.1:9/v1"):
        monkeypatch.setenv(f"{prefix}_BASE_URL", address)
        if door == HUGGINGFACE:  # the hub's client would send the token that it finds
            with pytest.raises(Unauthorized, match="set ANMOK_HUGGINGFACE_API_KEY"):
                places.found(door)
        else:
            assert places.found(door).key == ""
        with monkeypatch.context() as patch:
            patch.setenv(f"{prefix}_API_KEY", "own")
            place = places.found(door)
        assert place.key == "own"
        assert "own" not in repr(place)


@ALL_DOORS
@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("MODEL", "", "set it to"),
        ("MODEL", "a model", "set it to"),
        ("MODEL", "eyes?key=1", "set it to"),
        ("MODEL", "a\nb", "set it to"),
        ("BASE_URL", "ftp://host/v1", "want an address"),
        ("BASE_URL", "http://me:pw@host/v1", "want an address"),
        ("BASE_URL", "http://host/v1?key=k", "want an address"),
        ("BASE_URL", "http://host:port/v1", "want an address"),
        ("API_KEY", "k\nx: y", "holds no key"),
        ("API_KEY", "키", "holds no key"),
    ],
)
def test_settings_that_are_none(door: str, name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up(monkeypatch, door, "http://127.0.0.1:9")
    monkeypatch.setenv(f"ANMOK_{door.upper()}_{name}", value)
    with pytest.raises((BadRequest, Unauthorized), match=f"ANMOK_{door.upper()}_{name}.*{said}") as raised:
        opened(door)
    assert "pw" not in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["x", "0", "-1", "nan", "1e9"])
def test_a_silence_is_some_seconds(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up(monkeypatch, OPENAI, "http://127.0.0.1:9")
    monkeypatch.setenv("ANMOK_REMOTE_SECONDS", text)
    with pytest.raises(BadRequest, match="ANMOK_REMOTE_SECONDS"):
        opened(OPENAI)


def test_the_key_is_in_no_text(
    there: Vendor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    told = json.dumps({"error": {"message": f"the key {KEY} is\nnot good enough for this", "type": "x"}}).encode()
    for door in DOORS:
        set_up(monkeypatch, door, there.root)
        there.says(Answer(told, 422, "application/json"))
        model = opened(door)
        with pytest.raises(BadRequest, match=r"answered 422 \(the key \*\*\* is not good enough") as raised:
            model.run([SAID], Chat())
        assert raised.value.__cause__ is None
        assert KEY not in str(raised.value) + repr(model) + repr(vars(model.kind)) + model.maker
    assert KEY not in caplog.text


# What can only be had elsewhere ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["galaxy-ai", "gemini-nano"])
def test_what_no_program_can_call_says_so(name: str) -> None:
    with pytest.raises(
        Unsupported, match=f"^{name} has no weights to load and no interface for .*; here take"
    ) as raised:
        load(name)
    assert "\n" not in str(raised.value)
    assert run("chat", name, "Hello").code == 2
    assert run("pull", name).code == 2
    told = " ".join(fine("info", name).out.split())
    assert "no: " in told
    assert "ML Kit" in told
    assert name in fine("models").out
    assert name not in fine("models", "--task", "chat").out


def test_the_listing_says_who_sends() -> None:
    listed = fine("models", "--task", "chat")
    remote = [line for line in listed.out.splitlines() if "remote:" in line]
    assert len(remote) == 3
    assert all("sends" in line for line in remote)
    assert "words and pictures leave this machine" in listed.err
    told = " ".join(fine("info", "gemini-chat").out.split())
    assert "no: sends words and pictures to Google's Gemini API" in told
    assert "needs --accept-licence remote:gemini" in told
    assert "2048 px" not in told  # nothing is cut or filled up


# All the way ----------------------------------------------------------------------------------------------


def test_by_the_command_line(there: Vendor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    set_up(monkeypatch, OPENAI, there.root)
    there.says(answer(OPENAI, ["It is ", "red."]))
    photo = tmp_path / "red.png"
    photo.write_bytes(png(RED))
    refused = run("chat", "openai-chat", photo, "What is it?")
    assert (refused.code, there.asked) == (5, [])
    done = fine("chat", "openai-chat", photo, "What is it?", "--accept-licence", "remote:openai")
    assert done.out == "It is red.\n"
    assert "1117 tokens in, 9 out" in done.err
    assert len(there.asked) == 1


def test_a_server_of_ours_asks_another_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """And each of the two does it by its own API: pictures, counts and streams come through."""
    red = png(scene({"red": (0, 0, 80, 60)}))
    with running(Settings(models=(Served.of("fake-talk"),))) as behind:
        set_up(monkeypatch, OPENAI, behind.address, "fake-talk")
        [reply] = opened(OPENAI).run([Conversation.about(red, question="뭐예요? 🌈", system="s")], Chat())
        direct = load("fake-talk").run([Conversation.about(red, question="뭐예요? 🌈", system="s")], Chat())[0]
        assert (reply.text, reply.finish) == (direct.text, "stop")
        assert facts(reply) == (direct.tokens_in, direct.tokens_out, direct.image_tokens, ())
        with pytest.raises(LicenceRequired), running(Settings(models=(Served.of("openai-chat"),))):
            pass
        settings = Settings(models=(Served.of("openai-chat"),), accept_licences=("remote:openai",))
        with running(settings) as front:
            address = f"data:image/png;base64,{base64.b64encode(red).decode()}"
            content = [{"type": "image_url", "image_url": {"url": address}}, {"type": "text", "text": "Hm?"}]
            body = {"model": "openai-chat", "messages": [{"role": "user", "content": content}]}
            answered = front.post("/v1/chat/completions", body).json
            assert answered["choices"][0]["message"]["content"] == "I see red. Question 1: Hm?"
            assert answered["usage"]["prompt_tokens_details"] == {"image_tokens": 16}
            streamed = front.post("/v1/chat/completions", {**body, "stream": True})
            assert b'"content": "I s' in streamed.body
            assert streamed.body.rstrip().endswith(b"data: [DONE]")
        assert direct.image_tokens == 16


def test_its_states_are_files_and_know_their_maker() -> None:
    model = tiny("openai-chat")
    [state] = model.encode([picture((61, 83), 1)])
    photo = photos.photo(state)
    assert photo.kind == "image/png"
    assert photo.address.startswith("data:image/png;base64,iVBOR")
    assert state.nbytes == len(photo.data) + 8
    assert state.place.size_hw == (61, 83)
    with pytest.raises(Unsupported, match="openai-chat does not embed"):
        model.embed(Text("a"))
