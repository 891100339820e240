"""Webhooks against a real receiver: what is sent and signed, tried again, given up, and where nothing is sent."""

import json
import re
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from service.core.db import Database
from service.core.settings import Settings, WebhookSettings
from service.webhooks import repository
from service.webhooks.posting import post
from service.webhooks.schedule import MAX_TRIES
from service.webhooks.sender import Sender
from service.webhooks.tables import DeliveryRow, WebhookRow
from tests.helpers.pictures import zipped
from tests.helpers.receiver import Received, Receiver, receiving
from tests.helpers.service import ROOT, Service, process, running, settings_for, wait_until
from tests.helpers.zoo import TinyZoo

ALLOWED = WebhookSettings(allow_private_addresses=True, timeout_seconds=5.0)


def settings_with(data: Path, url: str | None, webhooks: WebhookSettings = ALLOWED) -> Settings:
    return settings_for(data, url).model_copy(update={"webhooks": webhooks})


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture
def hooked(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Service]:
    url = request.getfixturevalue("postgres").migrated() if kind == "postgresql" else None
    with running(settings_with(tmp_path / "data", url)) as service:
        yield service


@pytest.fixture
def verify() -> Callable[[str, Mapping[str, str], bytes], str]:
    """The function that docs/webhooks.md shows."""
    page = (ROOT / "docs" / "webhooks.md").read_text(encoding="utf-8")
    (snippet,) = [code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "def verify" in code]
    names: dict[str, Any] = {}
    exec(snippet, names)  # noqa: S102 - it is ours, and what is tested
    return names["verify"]


def send_all(service: Service, **options: Any) -> int:
    sender = Sender(service.database, service.settings.webhooks, **options)
    sent = 0
    while sender.send_next():
        sent += 1
    return sent


def add(service: Service, url: str, *events: str) -> dict[str, Any]:
    return service.call("POST", "/v1/webhooks", 201, json={"url": url, "events": list(events)})


def now_due(database: Database) -> None:
    with database.write() as session:
        session.execute(update(DeliveryRow).values(not_before=0.0))


def said(received: Received) -> dict[str, Any]:
    return json.loads(received.body)


def deliveries(service: Service, webhook: str) -> list[dict[str, Any]]:
    return service.call("GET", f"/v1/webhooks/{webhook}/deliveries")["items"]


def test_what_happens_is_sent_signed_to_who_listens(
    hooked: Service, receiver: Receiver, tiny_zoo: TinyZoo, verify: Callable[..., str]
) -> None:
    everything = add(hooked, receiver.url("/all"))
    rankings = add(hooked, receiver.url("/rankings"), "ranking.completed", "ranking.cancelled")
    hooked.add_models([*tiny_zoo.good[:1], tiny_zoo.missing])
    dataset = hooked.sealed()
    refused = hooked.upload(zipped({"a/1.png": b"no image", "b/1.png": b"none"}), name="bad")
    hooked.work()
    ranking = hooked.ranked(dataset["id"], {"name": "tiny_*"})
    failed = hooked.ranked(dataset["id"], [tiny_zoo.missing.name])
    body = {"dataset": dataset["id"], "models": tiny_zoo.names[:1]}
    waiting = hooked.call("POST", "/v1/rankings", 202, json=body)
    hooked.call("DELETE", f"/v1/rankings/{waiting['id']}", 204)
    hooked.call("DELETE", f"/v1/rankings/{ranking['id']}", 204)  # it had ended: nobody hears of it

    assert receiver.received == []
    assert send_all(hooked) == 7
    heard = {path: [said(r) for r in receiver.received if r.path == path] for path in ("/all", "/rankings")}
    assert [(event["type"], event["data"]) for event in heard["/all"]] == [
        (
            "dataset.sealed",
            {"dataset": dataset["id"], "name": "trees", "fingerprint": dataset["fingerprint"], "images": 24},
        ),
        ("dataset.refused", heard["/all"][1]["data"]),
        (
            "ranking.completed",
            {"ranking": ranking["id"], "dataset": dataset["id"], "models": 2, "models_failed": 1},
        ),
        ("ranking.failed", {"ranking": failed["id"], "dataset": dataset["id"], "models": 1, "models_failed": 1}),
        ("ranking.cancelled", {"ranking": waiting["id"], "dataset": dataset["id"], "models": 1, "models_failed": 0}),
    ]
    about = heard["/all"][1]["data"]
    assert about["dataset"] == refused["id"]
    assert about["problem"]["type"] == "/problems/nothing-readable"
    assert [event["type"] for event in heard["/rankings"]] == ["ranking.completed", "ranking.cancelled"]

    secrets = {"/all": everything["secret"], "/rankings": rankings["secret"]}
    idents = [verify(secrets[r.path], r.headers, r.body) for r in receiver.received]
    assert len(set(idents)) == 7
    first = receiver.received[0]
    assert first.headers["content-type"] == "application/json"
    other = {"/all": "/rankings", "/rankings": "/all"}[first.path]
    for secret, headers, body_sent in (
        (secrets[other], first.headers, first.body),
        (secrets[first.path], first.headers, first.body + b" "),
        (secrets[first.path], first.headers | {"webhook-id": "msg_other"}, first.body),
        (secrets[first.path], first.headers | {"webhook-timestamp": str(int(time.time()) - 400)}, first.body),
    ):
        with pytest.raises(ValueError, match=r"signature|old"):
            verify(secret, headers, body_sent)
    log = deliveries(hooked, everything["id"])
    assert [d["state"] for d in log] == ["done"] * 5
    assert [d["event"] for d in log][-1] == "dataset.sealed"
    assert log[0]["attempts"][0]["status"] == 204
    assert {d["id"] for d in log} <= set(idents)


def test_a_secret_is_shown_once_and_webhooks_are_managed_within_their_project(hooked: Service) -> None:
    made = add(hooked, "https://hooks.example.com/zoo", "ranking.completed", "ranking.completed")
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", made["secret"])
    shown = hooked.call("GET", f"/v1/webhooks/{made['id']}")
    assert "secret" not in shown
    assert shown["events"] == ["ranking.completed"]
    assert shown["enabled"] is True
    assert hooked.call("GET", "/v1/webhooks")["items"] == [shown]
    with hooked.database.read() as session, pytest.raises(Exception, match="no webhook"):
        repository.get(session, "another", made["id"])
    for body, word in (
        ({"url": "gopher://example.com"}, "https://"),
        ({"url": "https://a.example", "events": ["ranking.finished"]}, "events"),
        ({"url": "https://a.example", "colour": "red"}, "colour"),
    ):
        assert word in hooked.call("POST", "/v1/webhooks", 422, json=body)["detail"]
    for _ in range(19):
        add(hooked, "https://hooks.example.com/zoo")
    problem = hooked.call("POST", "/v1/webhooks", 409, json={"url": "https://hooks.example.com/zoo"})
    assert problem["type"] == "/problems/too-many-webhooks"
    hooked.call("DELETE", f"/v1/webhooks/{made['id']}", 204)
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/ping"), ("GET", "/deliveries")):
        hooked.call(method, f"/v1/webhooks/{made['id']}{path}", 404)


def test_a_failure_is_tried_again_later_with_a_log_and_the_same_id(hooked: Service, receiver: Receiver) -> None:
    webhook = add(hooked, receiver.url())["id"]
    ping = hooked.call("POST", f"/v1/webhooks/{webhook}/ping", 202)
    receiver.status, receiver.answer = 500, b"x" * 10_000
    assert send_all(hooked) == 1  # and no more: the next try is not due
    seen = hooked.call("GET", f"/v1/webhooks/{webhook}/deliveries/{ping['id']}")
    assert seen["state"] == "queued"
    assert seen["attempts"][0]["status"] == 500
    assert seen["attempts"][0]["answer"] == "x" * 500
    assert seen["next_attempt_at"] > seen["attempts"][0]["at"]
    assert hooked.call("GET", f"/v1/webhooks/{webhook}")["failing_since"] is not None
    now_due(hooked.database)
    receiver.status, receiver.answer = 200, b"thanks\0"
    assert send_all(hooked) == 1
    seen = hooked.call("GET", f"/v1/webhooks/{webhook}/deliveries/{ping['id']}")
    assert [a["status"] for a in seen["attempts"]] == [500, 200]
    assert (seen["state"], seen["attempts"][1]["answer"]) == ("done", "thanks\N{REPLACEMENT CHARACTER}")
    assert hooked.call("GET", f"/v1/webhooks/{webhook}")["failing_since"] is None
    hooked.call("POST", f"/v1/webhooks/{webhook}/deliveries/{ping['id']}/redeliver", 202)
    assert send_all(hooked) == 1
    assert {r.headers["webhook-id"] for r in receiver.received} == {ping["id"]}
    assert len({r.body for r in receiver.received}) == 1
    hooked.call("POST", f"/v1/webhooks/{webhook}/deliveries/msg_none/redeliver", 404)


def test_a_webhook_that_fails_for_days_is_disabled_until_a_ping_arrives(hooked: Service, receiver: Receiver) -> None:
    webhook = add(hooked, receiver.url())["id"]
    receiver.status = 503
    hooked.call("POST", f"/v1/webhooks/{webhook}/ping", 202)
    for _ in range(MAX_TRIES):
        now_due(hooked.database)
        assert send_all(hooked) == 1
    assert deliveries(hooked, webhook)[0]["state"] == "failed"
    assert hooked.call("GET", f"/v1/webhooks/{webhook}")["enabled"] is True  # not for days yet

    with hooked.database.write() as session:
        session.execute(update(WebhookRow).values(failing_since=WebhookRow.failing_since - 6 * 86400))
        session.execute(update(DeliveryRow).values(state="queued", tries=MAX_TRIES - 1, not_before=0.0))
    assert send_all(hooked) == 1
    disabled = hooked.call("GET", f"/v1/webhooks/{webhook}")
    assert disabled["enabled"] is False
    assert "6.0 days" in disabled["disabled_reason"]
    assert "503" in disabled["disabled_reason"]
    hooked.sealed()  # nobody listens
    assert len(deliveries(hooked, webhook)) == 1
    receiver.status = 204
    hooked.call("POST", f"/v1/webhooks/{webhook}/ping", 202)
    assert send_all(hooked) == 1
    assert hooked.call("GET", f"/v1/webhooks/{webhook}")["enabled"] is True


def test_a_receiver_that_is_gone_is_asked_no_more(hooked: Service, receiver: Receiver) -> None:
    webhook = add(hooked, receiver.url())["id"]
    for _ in range(2):
        hooked.call("POST", f"/v1/webhooks/{webhook}/ping", 202)
    receiver.status = 410
    assert send_all(hooked) == 1
    assert "410" in hooked.call("GET", f"/v1/webhooks/{webhook}")["disabled_reason"]
    assert {d["state"] for d in deliveries(hooked, webhook)} == {"failed"}


def test_nothing_is_lost_when_the_sender_dies_and_nothing_written_by_one_that_comes_late(
    hooked: Service, receiver: Receiver
) -> None:
    webhook = add(hooked, receiver.url())["id"]
    hooked.call("POST", f"/v1/webhooks/{webhook}/ping", 202)
    with hooked.database.write() as session:
        claimed = repository.claim(session, lease_seconds=30.0)
    assert claimed is not None
    assert send_all(hooked) == 0  # another has it
    with hooked.database.write() as session:
        session.execute(update(DeliveryRow).values(lease_until=0.0))
    assert send_all(hooked) == 1
    with hooked.database.write() as session:
        assert repository.settle(session, claimed[0], {"state": "queued"}) is False
    assert deliveries(hooked, webhook)[0]["state"] == "done"


def test_senders_share_the_work_and_send_one_at_a_time_to_each_webhook(hooked: Service, receiver: Receiver) -> None:
    webhook = add(hooked, receiver.url())["id"]
    for _ in range(6):
        hooked.call("POST", f"/v1/webhooks/{webhook}/ping", 202)
    stop = threading.Event()
    senders = [
        threading.Thread(target=Sender(hooked.database, hooked.settings.webhooks).run, args=(stop,)) for _ in range(2)
    ]
    for thread in senders:
        thread.start()
    wait_until(lambda: {d["state"] for d in deliveries(hooked, webhook)} == {"done"}, seconds=30)
    stop.set()
    for thread in senders:
        thread.join()
    assert len(receiver.received) == 6
    assert len({r.headers["webhook-id"] for r in receiver.received}) == 6


def test_old_deliveries_are_forgotten_and_open_ones_kept(hooked: Service, receiver: Receiver) -> None:
    webhook = add(hooked, receiver.url())["id"]
    hooked.call("POST", f"/v1/webhooks/{webhook}/ping", 202)
    assert send_all(hooked) == 1
    waiting = hooked.call("POST", f"/v1/webhooks/{webhook}/ping", 202)["id"]
    Sender(hooked.database, ALLOWED).forget_old()
    assert len(deliveries(hooked, webhook)) == 2
    Sender(hooked.database, ALLOWED.model_copy(update={"keep_seconds": 0.0})).forget_old()
    with hooked.database.read() as session:
        assert session.scalars(select(DeliveryRow.id)).all() == [waiting]


# Without a database: where requests go.


def sent_to(url: str, **options: Any) -> Any:
    how: dict[str, Any] = {"timeout_seconds": 5.0, "allow_private": True} | options
    return post(url, b"{}", {"webhook-id": "msg_1"}, **how)


def test_no_request_leaves_for_an_address_that_is_not_public(receiver: Receiver) -> None:
    for host in ("localhost", "127.0.0.1", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "127.1", "0x7f.1"):  # noqa: S104
        answer = sent_to(receiver.url(host=host), allow_private=False)
        assert answer.status is None, host
        assert answer.error, host
        assert "public address" in answer.error or "gaierror" in answer.error, (host, answer.error)
    assert receiver.received == []


def test_the_address_that_was_checked_is_the_one_that_is_connected_to(receiver: Receiver) -> None:
    """A name that leads elsewhere at the second look does no harm: there is one look."""
    looks: list[tuple[str, int]] = []

    def lookup(host: str, port: int) -> list[Any]:
        looks.append((host, port))
        return [ip_address("127.0.0.1")]

    # `.invalid` is known to no name server: had it been looked up again, there would be no answer.
    answer = sent_to(receiver.url(host="hooks.invalid"), lookup=lookup)
    assert answer.status == 204, answer
    assert looks == [("hooks.invalid", receiver.port)]
    assert receiver.received[0].headers["host"] == f"hooks.invalid:{receiver.port}"
    refused = sent_to(receiver.url(host="hooks.invalid"), lookup=lookup, allow_private=False)
    assert "leads to 127.0.0.1" in refused.error
    assert len(receiver.received) == 1


def test_of_several_addresses_one_that_answers_is_found(receiver: Receiver) -> None:
    def lookup(_host: str, _port: int) -> list[Any]:
        return [ip_address("127.0.0.99"), ip_address("127.0.0.1")]  # nothing listens at the first

    assert sent_to(receiver.url(host="hooks.invalid"), lookup=lookup).status == 204


def test_redirects_are_not_followed_and_proxies_not_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    receiver.status, receiver.headers = 302, {"Location": receiver.url("/elsewhere")}
    answer = sent_to(receiver.url())
    assert answer.status == 302
    assert "Redirects" in answer.error
    assert [r.path for r in receiver.received] == ["/hook"]


def test_a_receiver_that_drips_is_cut_off_in_time(receiver: Receiver) -> None:
    receiver.status, receiver.answer, receiver.drip_seconds = 200, b"x" * 100, 0.2
    started = time.monotonic()
    answer = sent_to(receiver.url(), timeout_seconds=0.7)
    assert time.monotonic() - started < 3
    assert answer.status is None
    assert "0.7 seconds" in answer.error
    nobody = sent_to("http://127.0.0.1:9/")
    assert "ConnectError" in nobody.error


def test_tls_is_verified_against_the_name_and_not_the_address(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=hooks.invalid",
         "-addext", "subjectAltName=DNS:hooks.invalid", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    trust = ssl.create_default_context(cafile=str(certificate))

    def lookup(_host: str, _port: int) -> list[Any]:
        return [ip_address("127.0.0.1")]

    with receiving(server) as receiver:
        url = receiver.url(host="hooks.invalid", scheme="https")
        assert sent_to(url, lookup=lookup, trust=trust).status == 204
        other = sent_to(url.replace("hooks", "other"), lookup=lookup, trust=trust)
        assert "CERTIFICATE" in other.error.upper()
        unknown = sent_to(url, lookup=lookup)
        assert "CERTIFICATE" in unknown.error.upper()
        assert len(receiver.received) == 1


def test_a_worker_sends_by_itself(tmp_path: Path, receiver: Receiver) -> None:
    settings = settings_with(tmp_path / "data", None)
    with running(settings) as service:
        webhook = add(service, receiver.url())["id"]
        service.call("POST", f"/v1/webhooks/{webhook}/ping", 202)
        with process(settings, tmp_path / "log", "service.worker"):
            wait_until(lambda: receiver.received, seconds=60, why=(tmp_path / "log").read_text())
            wait_until(lambda: deliveries(service, webhook)[0]["state"] == "done")
