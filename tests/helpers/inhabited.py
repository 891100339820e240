"""A project with something of everything in it, so that ids exist for every endpoint to be asked about."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.keys import repository, service
from service.keys.schemas import KeyCreate, Scope
from tests.data.archives import zip_bytes
from tests.helpers.pictures import class_folders, zipped
from tests.helpers.service import Service
from tests.helpers.zoo import TinyModel

HOOK = "https://hooks.invalid/zoo"  # a name that leads nowhere


@dataclass(frozen=True)
class Inhabited:
    """`ids` by the name that a path gives them; `doomed` may be removed."""

    headers: dict[str, str]
    ids: dict[str, list[str]]
    doomed: dict[str, list[str]]
    image: str

    @property
    def everything(self) -> set[str]:
        return {ident for kind in (self.ids, self.doomed) for ids in kind.values() for ident in ids}


def bearer(on: Service, project: str, /, *, scope: Scope = Scope.ADMIN) -> dict[str, str]:
    """A key of a project, which is made if there is none of this name."""
    with on.database.write() as session:
        owner = repository.project_named(session, project)
        return {"Authorization": f"Bearer {service.create(session, owner.id, KeyCreate(name='test', scope=scope)).key}"}


def features(seed: int = 0) -> bytes:
    rng = np.random.default_rng(seed)
    out = io.BytesIO()
    np.savez(out, features=rng.normal(size=(40, 5)).astype(np.float32), labels=np.arange(40) % 2)
    return out.getvalue()


def inhabit(on: Service, models: Sequence[TinyModel], headers: dict[str, str], /, *, seed: int = 0) -> Inhabited:
    """Through the API; a worker does what is to be done, and at the end some of it waits again."""

    def call(method: str, path: str, status: int, **options: Any) -> Any:
        return on.call(method, path, status, headers=headers, **options)

    def upload(data: bytes, name: str) -> str:
        return str(call("POST", "/v1/datasets", 202, params={"name": name}, content=data)["id"])

    model_ids = [call("POST", "/v1/models", 201, json=model.request())["id"] for model in models]
    spare = call("POST", "/v1/models", 201, json=models[0].request(name="spare.a"))["id"]
    files = class_folders(each=4, seed=seed)
    sealed = upload(zipped(files), "sealed")
    removable = upload(zipped(class_folders(each=2, seed=seed + 1)), "removable")
    refused = upload(zip_bytes({"cat/1.png": b"text", "dog/1.png": str(seed).encode()}), "refused")
    task = call("POST", "/v1/models/import", 202, json={"source": "timm", "filter": "nothing*"})["task_id"]
    scoring = call("POST", "/v1/scores", 202, params={"estimators": "logme"}, content=features())["id"]
    on.work()
    call("PUT", "/v1/reference", 200, json={"dataset": sealed})
    image = next(iter(files))
    version = call("POST", f"/v1/datasets/{sealed}/versions", 202, json={"remove": [image]})["id"]
    ranking = call("POST", "/v1/rankings", 202, json={"dataset": sealed, "models": model_ids})["id"]
    inspection = call("POST", f"/v1/datasets/{sealed}/inspections", 202, json={"model": model_ids[0]})["id"]
    prescore = call("POST", "/v1/prescore", 202, json={"budget": "1img"})["id"]
    on.work()
    waiting = call("POST", "/v1/rankings", 202, json={"dataset": removable, "models": model_ids[:1]})["id"]
    stoppable = call("POST", "/v1/prescore", 202, json={"new": True})["id"]
    checking = upload(zipped(class_folders(each=2, seed=seed + 2)), "checking")
    training = [
        call("POST", "/v1/finetunings", 202, json={"dataset": sealed, "models": model_ids[:1]})["id"] for _ in range(2)
    ]
    keys = [call("POST", "/v1/keys", 201, json={"name": f"key {n}", "scope": "read"})["id"] for n in range(2)]
    hooks = [call("POST", "/v1/webhooks", 201, json={"url": f"{HOOK}/{seed}{n}"})["id"] for n in range(2)]
    measured = {"dataset": sealed, "model": model_ids[0], "accuracy": 0.5}
    outcome = call("POST", "/v1/outcomes", 201, json=measured)["items"][0]["id"]
    delivery = call("POST", f"/v1/webhooks/{hooks[0]}/ping", 202)["id"]
    assert call("GET", f"/v1/rankings/{ranking}", 200)["state"] == "done"
    assert call("GET", f"/v1/inspections/{inspection}", 200)["state"] == "done"
    assert call("GET", f"/v1/scores/{scoring}", 200)["state"] == "done"
    return Inhabited(
        headers=headers,
        ids={
            "dataset": [sealed, version, refused, checking],
            "model": model_ids,
            "ranking": [ranking],
            "inspection": [inspection],
            "prescore": [prescore],
            "scoring_id": [scoring],
            "task_id": [task],
            "finetuning": training[:1],
            "key": keys[:1],
            "webhook": hooks[:1],
            "delivery": [delivery],
            "outcome": [outcome],
        },
        doomed={
            "dataset": [removable],
            "model": [spare],
            "ranking": [waiting],
            "prescore": [stoppable],
            "finetuning": training[1:],
            "key": keys[1:],
            "webhook": hooks[1:],
        },
        image=list(files)[-1],
    )
